"""Feed-forward, convolutional and residual networks: known numbers of groups, known patterns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.spec import show_pattern
from symport.symmetry import discover
from symport_recipes.networks import ResNet
from symport_recipes.networks.zoo._residual import Block

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def find(net, *inputs):
    """The patterns as text; every spec in this file must pass its proof."""
    spec = discover(net, inputs, strict=True)
    return spec, {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}


def test_a_perceptron_has_one_group_for_each_hidden_layer():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
    spec, text = find(net, torch.zeros(1, 4))
    assert text == {"0.weight": "h0 .", "0.bias": "h0", "2.weight": "h2 h0", "2.bias": "h2",
                    "4.weight": ". h2", "4.bias": "."}  # fmt: skip
    assert spec.sizes == {"h0": 5, "h2": 6}


def test_the_reason_is_given_for_every_axis_that_stays():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    spec, _ = find(net, torch.zeros(1, 4))
    assert spec.reasons["0.weight"] == {1: "input axis"}
    assert "output axis" in spec.reasons["2.weight"][0]
    assert "output axis" in spec.reasons["2.bias"][0]


def test_a_flattened_image_repeats_each_channel_at_every_position():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * 9, 5), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(5, 2),
    )  # fmt: skip
    spec, text = find(net, torch.zeros(2, 3, 8, 8))
    assert text["0.weight"] == "h0 . . ."
    assert text["5.weight"] == "h5 (h0 9)"
    assert text["1.running_mean"] == text["1.running_var"] == "h0"
    assert text["1.num_batches_tracked"] == ""
    assert spec.buffers == {"1.running_mean", "1.running_var"}
    assert spec.reasons["5.weight"][1] == "spatial position"


def test_a_1x1_shortcut_separates_two_residual_groups():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Block(4, 4), Block(4, 6), nn.Conv2d(6, 2, 1))
    _, text = find(net, torch.zeros(1, 3, 5, 5))
    assert text["1.conv2.weight"].split()[0] == text["0.weight"].split()[0] == "h0"
    assert text["2.downsample.0.weight"].split()[:2] == [text["2.conv2.weight"].split()[0], "h0"]
    assert text["2.conv2.weight"].split()[0] != "h0"


def test_residual_blocks_of_a_perceptron_share_the_stream():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)
            self.up = nn.ModuleList(nn.Linear(3, 5) for _ in range(2))
            self.down = nn.ModuleList(nn.Linear(5, 3) for _ in range(2))

        def forward(self, x):
            x = self.first(x)
            for up, down in zip(self.up, self.down, strict=True):
                x = x + down(F.gelu(up(x)))
            return self.last(x)

    spec, text = find(Net(), torch.zeros(2, 4))
    assert spec.sizes == {"first": 3, "up.0": 5, "up.1": 5}
    assert text["down.1.weight"] == "first up.1"


def test_a_group_norm_makes_channels_nest_in_its_groups():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    spec, text = find(net, torch.zeros(1, 3, 5, 5))
    assert text["0.weight"] == "(h0 h0/inner) . . ."
    assert text["1.bias"] == "(h0 h0/inner)"
    assert text["3.weight"] == ". (h0 h0/inner) . ."
    assert spec.sizes == {"h0": 2, "h0/inner": 3}


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(1, 6),
        nn.GroupNorm(6, 6),
        nn.InstanceNorm2d(6),
        nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    ],
)
def test_a_norm_of_one_group_or_one_channel_each_leaves_all_channels_free(norm):
    spec, _ = find(nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.Conv2d(6, 2, 1)), IMAGE)
    assert spec.sizes == {"h0": 6}


def test_a_grouped_convolution_is_a_wreath_product_on_both_sides():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU(),
                        nn.Conv2d(8, 2, 1))  # fmt: skip
    spec, text = find(net, torch.zeros(1, 3, 5, 5))
    assert text["0.weight"] == "(h0 h0/inner) . . ."
    assert text["2.weight"] == "(h0 h0/2) h0/inner . ."
    assert text["4.weight"] == ". (h0 h0/2) . ."
    assert spec.shape_of("h0/2") == (2, 4)


def test_resnext_blocks_have_a_wreath_product_inside():
    spec, _ = find(ResNet((1, 1), base=8, bottleneck=True, groups=4), IMAGE)
    nested = [name for name in spec.groups if "/" in name]
    assert len(spec.trees()) == 5  # the stem, two stages, two blocks
    assert len(nested) == 4
    assert {spec.groups[name.split("/")[0]].size for name in nested} == {4}


def test_depthwise_convolution_and_squeeze_excite_share_one_group():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.each = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
            self.last = nn.Linear(8, 2)

        def forward(self, x):
            x = F.silu(self.each(F.hardswish(self.wide(x))))
            scale = self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
            return self.last((x * F.hardsigmoid(scale)).mean((2, 3)))

    spec, text = find(Net(), IMAGE)
    assert spec.sizes == {"wide": 8, "squeeze": 4}
    assert text["each.weight"] == "wide . . ."
    assert text["excite.weight"] == "wide squeeze . ."


def test_a_depthwise_convolution_that_multiplies_channels_nests_the_copies():
    net = nn.Sequential(nn.Conv1d(3, 4, 1), nn.Conv1d(4, 12, 3, groups=4), nn.Conv1d(12, 2, 1))
    spec, text = find(net, torch.zeros(1, 3, 6))
    assert text["1.weight"] == "(h0 h0/1) . ."
    assert spec.sizes == {"h0": 4, "h0/1": 3}


class UNet(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.up = nn.ConvTranspose2d(12, 6, 2, 2)
        self.norm, self.last = nn.GroupNorm(groups, 14), nn.Conv2d(14, 2, 1)

    def forward(self, x):
        a = F.relu(self.down1(x))
        b = self.up(F.relu(self.down2(a)))
        return self.last(self.norm(torch.cat([a, b], 1)))


def test_a_unet_concatenates_two_groups():
    spec, text = find(UNet(1), IMAGE)
    assert text["last.weight"] == ". (down1 + up.bias) . ."
    assert text["up.weight"] == "down2 up.bias . ."
    assert spec.sizes == {"down1": 8, "down2": 12, "up.bias": 6}


def test_norm_groups_of_a_concatenation_stay_within_its_parts():
    spec, text = find(UNet(7), IMAGE)
    assert text["norm.weight"] == "(down1 down1/inner + up.bias up.bias/inner)"
    assert (spec.sizes["down1"], spec.sizes["up.bias"]) == (4, 3)


def test_a_norm_group_across_two_parts_stays_in_place():
    spec, text = find(UNet(2), IMAGE)  # groups of 7: the second has 1 channel of a, 6 of b
    assert text["norm.weight"] == "(down1 + 1 + up.bias)"
    assert spec.sizes == {"down1": 7, "down2": 12, "up.bias": 6}


def test_pixel_shuffle_keeps_positions_and_moves_channels():
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2), nn.Conv2d(3, 2, 1))
    _, text = find(net, torch.zeros(1, 3, 4, 4))
    assert text["0.weight"] == "(h0 4) . . ."
    assert text["2.weight"] == ". h0 . ."


def test_channel_shuffle_swaps_the_factors():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ChannelShuffle(2), nn.Conv2d(6, 2, 1))
    spec, text = find(net, torch.zeros(1, 3, 4, 4))
    assert text["0.weight"] == "(h0 h0/inner) . . ."
    assert text["2.weight"] == ". (h0/inner h0) . ."
    assert spec.sizes == {"h0": 2, "h0/inner": 3}


def test_a_shuffled_network_is_proven_even_if_its_symmetry_is_not_complete():
    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, x):
            left, right = x.chunk(2, 1)
            return F.channel_shuffle(torch.cat([left, self.branch(right)], 1), 2)

    find(nn.Sequential(nn.Conv2d(3, 8, 1), Unit(), Unit(), nn.Conv2d(8, 2, 1)), IMAGE)


def test_a_layer_used_twice_has_one_group_on_both_sides():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x):
            x = self.first(x)
            for _ in range(3):
                x = torch.tanh(self.again(x))
            return self.last(x)

    _, text = find(Net(), torch.zeros(1, 4))
    assert text["again.weight"] == "first first"


def test_tensors_that_are_one_get_one_pattern():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net[2].weight = net[0].weight
    spec, text = find(net, torch.zeros(1, 4))
    assert text["0.weight"] == text["2.weight"] == ". ."
    assert "input axis" in spec.reasons["2.weight"][1]
    assert spec.sizes == {} or set(spec.sizes) == {"h2.bias"}


def test_a_padded_shortcut_adds_free_channels():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.wide = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 7, 1)
            self.last = nn.Conv2d(7, 2, 1)

        def forward(self, x):
            x = F.relu(self.first(x))
            return self.last(self.wide(x) + F.pad(x, (0, 0, 0, 0, 0, 3)))

    spec, text = find(Net(), torch.zeros(1, 3, 4, 4))
    assert text["wide.weight"] == "(first + wide) first . ."
    assert spec.sizes == {"first": 4, "wide": 3}


def test_weight_norm_moves_gain_and_direction_together():
    net = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 2)
    )
    spec, text = find(net, torch.zeros(1, 4))
    names = [name for name in text if "original" in name]
    assert len({text[name].split()[0] for name in names}) == 1
    assert list(spec.sizes.values()) == [5]


def test_one_dimensional_and_three_dimensional_convolutions():
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.PReLU(4), nn.MaxPool1d(2),
                        nn.Conv1d(4, 2, 1))  # fmt: skip
    assert find(net, torch.zeros(1, 2, 8))[0].sizes == {"h0": 4}
    net = nn.Sequential(nn.Conv3d(2, 4, 2), nn.ELU(), nn.AvgPool3d(2), nn.Upsample(scale_factor=2),
                        nn.Conv3d(4, 2, 1))  # fmt: skip
    assert find(net, torch.zeros(1, 2, 5, 5, 5))[0].sizes == {"h0": 4}


def test_the_answer_on_the_meta_device_is_the_same():
    with torch.device("meta"):
        empty = ResNet((1, 1), bottleneck=True)
    real = ResNet((1, 1), bottleneck=True)
    assert discover(empty, IMAGE).to_json() == discover(real, IMAGE).to_json()
