from collections.abc import Callable

import pytest
import torch
from torch import nn

from symport.errors import SettingsError
from symport_recipes.networks import conv8, digits_mlp, initial, mlp, resnet18, two_layer_mlp


def parameters(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in model.parameters())


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_layers_of_an_mlp_are_numbered_from_one():
    assert shapes(mlp([4, 3, 2])) == {
        "fc1.weight": (3, 4), "fc1.bias": (3,), "fc2.weight": (2, 3), "fc2.bias": (2,),
    }  # fmt: skip


def test_an_mlp_computes_what_the_paper_writes():
    # x₁ = σ(W₁x₀ + b₁), x₂ = W₂x₁ + b₂ (section 2), on a flattened input
    model = mlp([6, 5, 3])
    state = model.state_dict()
    x = torch.randn(7, 2, 3)
    hidden = (x.reshape(7, 6) @ state["fc1.weight"].T + state["fc1.bias"]).clamp(min=0)
    expected = hidden @ state["fc2.weight"].T + state["fc2.bias"]
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_the_mlps_of_the_experiments_have_their_widths():
    assert shapes(digits_mlp())["fc2.weight"] == (512, 512)
    assert parameters(digits_mlp()) == 64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    assert shapes(two_layer_mlp())["fc1.weight"] == (4096, 784)
    assert two_layer_mlp(8)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("widths", [[], [3], [3, 0, 2]])
def test_widths_that_make_no_network_are_refused(widths: list[int]):
    with pytest.raises(SettingsError, match="at least two of at least 1 are needed"):
        mlp(widths)


def test_conv8_has_the_layout_of_table_2():
    kinds = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool", nn.Linear: "linear"}
    layout = [
        (kinds[type(layer)], *map(int, sizes(layer)))
        for layer in conv8().children()
        if type(layer) in kinds
    ]
    assert layout == [
        ("conv", 3, 64), ("relu",), ("conv", 64, 64), ("relu",), ("pool", 2),
        ("conv", 64, 128), ("relu",), ("conv", 128, 128), ("relu",), ("pool", 2),
        ("conv", 128, 256), ("relu",), ("conv", 256, 256), ("relu",), ("pool", 2),
        ("conv", 256, 512), ("relu",), ("conv", 512, 512), ("relu",), ("pool", 4),
        ("conv", 512, 512), ("relu",),
        ("linear", 512, 256), ("relu",), ("linear", 256, 256), ("relu",), ("linear", 256, 10),
    ]  # fmt: skip
    convolutions = [layer for layer in conv8().children() if isinstance(layer, nn.Conv2d)]
    assert {(c.kernel_size, c.stride, c.padding) for c in convolutions} == {
        ((3, 3), (1, 1), (1, 1))
    }


def sizes(layer: nn.Module) -> tuple[int, ...]:
    match layer:
        case nn.Conv2d():
            return layer.in_channels, layer.out_channels
        case nn.Linear():
            return layer.in_features, layer.out_features
        case nn.MaxPool2d():
            assert isinstance(layer.kernel_size, int)
            return (layer.kernel_size,)
        case _:
            return ()


def test_conv8_names_its_layers_and_counts_its_parameters():
    model = conv8(classes=7)
    names = [*(f"conv{k}" for k in range(1, 10)), "fc1", "fc2", "fc3"]
    assert list(model.state_dict()) == [f"{n}.{kind}" for n in names for kind in ("weight", "bias")]
    channels = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    channels += [(512, 512), (512, 512)]
    linears = [(512, 256), (256, 256), (256, 7)]
    expected = sum(9 * a * b + b for a, b in channels) + sum(a * b + b for a, b in linears)
    assert parameters(model) == expected


def test_a_narrow_conv8_keeps_its_ends():
    model = conv8(classes=5, width=0.125)
    found = shapes(model)
    assert found["conv1.weight"] == (8, 3, 3, 3)
    assert found["conv9.weight"] == (64, 64, 3, 3)
    assert found["fc3.weight"] == (5, 32)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("build", [lambda: conv8(0), lambda: conv8(width=0.001)])
def test_a_conv8_of_nothing_is_refused(build: Callable[[], nn.Module]):
    with pytest.raises(SettingsError, match=r"conv8: classes .* are not allowed"):
        build()


def published_resnet18(classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet-18, written from its published checkpoint."""

    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        vectors = ("weight", "bias", "running_mean", "running_var")
        counter = {f"{name}.num_batches_tracked": ()}
        return {f"{name}.{vector}": (width,) for vector in vectors} | counter

    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            found[f"{name}.conv1.weight"] = (width, before, 3, 3)
            found |= norm(f"{name}.bn1", width)
            found[f"{name}.conv2.weight"] = (width, width, 3, 3)
            found |= norm(f"{name}.bn2", width)
            if stage > 1 and block == 0:
                found[f"{name}.downsample.0.weight"] = (width, before, 1, 1)
                found |= norm(f"{name}.downsample.1", width)
            before = width
    return found | {"fc.weight": (classes, 512), "fc.bias": (classes,)}


def test_resnet18_has_the_names_and_shapes_of_torchvision_in_its_order():
    with torch.device("meta"):
        model = resnet18()
    expected = published_resnet18(1000)
    assert list(shapes(model)) == list(expected)
    assert shapes(model) == expected
    assert parameters(model) == 11_689_512  # torchvision's documentation of ResNet18_Weights
    assert len(model.state_dict()) == 122


def test_resnet18_halves_its_map_five_times():
    model = resnet18(3).eval()
    found: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> Callable[..., None]:
        return lambda module, given, out: found.update({name: tuple(out.shape[1:])})

    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"):
        model.get_submodule(name).register_forward_hook(record(name))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert found == {
        "conv1": (64, 32, 32), "maxpool": (64, 16, 16), "layer1": (64, 16, 16),
        "layer2": (128, 8, 8), "layer3": (256, 4, 4), "layer4": (512, 2, 2), "avgpool": (512, 1, 1),
    }  # fmt: skip


def test_a_block_adds_its_input_before_the_last_relu():
    block = resnet18(1).get_submodule("layer1.0").eval()
    x = torch.randn(2, 64, 4, 4)
    with torch.no_grad():
        for name, tensor in block.named_parameters():
            if name.startswith("conv2"):
                tensor.zero_()
        # The second convolution gives 0, its BatchNorm (fresh: mean 0, variance 1) leaves it.
        assert torch.equal(block(x), x.clamp(min=0))


def test_a_resnet18_without_classes_is_refused():
    with pytest.raises(SettingsError, match="resnet18: classes must be at least 1, not 0"):
        resnet18(0)


@pytest.mark.parametrize("build", [digits_mlp, lambda: conv8(width=0.125)])
def test_initial_weights_are_those_of_pytorch_under_the_seed(build: Callable[[], nn.Module]):
    torch.manual_seed(5)
    expected = build().state_dict()
    found = initial(build, 5)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    other = initial(build, 6)
    assert not any(torch.equal(found[name], other[name]) for name in found)


def test_drawing_initial_weights_leaves_the_random_state():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    initial(digits_mlp, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_are_kaiming_uniform():
    # Bound 1/√fan_in: gain 1/√3 · √(3/fan_in) of a Kaiming-uniform draw with a = √5.
    weight = initial(digits_mlp, 0)["fc2.weight"]
    bound = 512**-0.5
    assert float(weight.abs().max()) <= bound
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.01)


def test_a_gain_of_the_square_root_of_two_is_the_start_of_he_et_al():
    torch.manual_seed(5)
    expected = conv8(width=0.125)
    for tensor in expected.parameters():
        if tensor.ndim > 1:
            nn.init.kaiming_uniform_(tensor, nonlinearity="relu")
        else:
            nn.init.zeros_(tensor)
    found = initial(lambda: conv8(width=0.125), 5, gain=2**0.5)
    assert all(torch.allclose(found[n], t, rtol=1e-6) for n, t in expected.state_dict().items())


def test_initial_weights_hold_the_buffers_and_want_no_gradient():
    state = initial(lambda: resnet18(2), 0)
    assert float(state["bn1.running_var"].sum()) == 64
    assert not any(tensor.requires_grad for tensor in state.values())
