"""Axes along which positions are combined are fixed, and nest nothing; the others are free.

Each network reads nothing but weights, and adds what an operation makes of them to what it was
made of, so that a position before and one after it are the same axis. Each is looked at with and
without weights: on the meta device nothing would notice a wrong group.
"""

import pytest
import torch
from elements import largest_change
from torch import nn
from torch.nn import functional as F

from symport.spec import groups_in
from symport.symmetry import discover


class Echo(nn.Module):
    """A sum over all entries of a weight and what is made of it, each with a weight of its own."""

    def __init__(self, do, shape):
        super().__init__()
        self.do = do
        self.p, self.q = nn.Parameter(torch.randn(*shape)), nn.Parameter(torch.randn(*shape))

    def forward(self, scale):
        return scale * ((self.p + self.do(self.p)) * self.q).sum()


def kernel(p, *shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).to(p).view(shape)


ORDER = [2, 0, 3, 1]


def places(p):
    return torch.tensor(ORDER, device=p.device)


# The shape, and for each axis whether it is free: counted by hand from what the operation mixes.
ROWS = {
    "summed in order": lambda p: p.cumsum(1),
    "read backwards": lambda p: p.flip(1),
    "shifted cyclically": lambda p: p.roll(1, 1),
    "pooled": lambda p: F.avg_pool1d(p[None], 3, 1, 1)[0],
    "convolved": lambda p: F.conv1d(p[:, None], kernel(p, 1, 1, 3), padding=1)[:, 0],
    "resampled by a scale": lambda p: F.interpolate(p[None], scale_factor=1.1, mode="linear")[0],
    "a Fourier transform": lambda p: torch.fft.fft(p).real,
    "windows": lambda p: F.pad(p, (1, 1)).unfold(1, 3, 1)[..., 0],
    "reflected": lambda p: F.pad(p[None], (1, 0), mode="reflect")[0][:, :4],
    "sorted": lambda p: p.sort(1)[0],
    "stacked otherwise": lambda p: torch.stack([p[:, k] for k in ORDER], 1),
    "indexed by a list": lambda p: p[:, ORDER],
    "indexed by a tensor": lambda p: p[:, places(p) + 0],
    "chosen": lambda p: p.index_select(1, places(p)),
    "gathered": lambda p: p.gather(1, places(p).expand(3, 4)),
    "scattered": lambda p: torch.zeros_like(p).scatter(1, places(p).expand(3, 4), p),
    "added by index": lambda p: torch.zeros_like(p).index_add(1, places(p), p),
    "every second, then the others": lambda p: torch.cat([p[:, 1::2], p[:, ::2]], 1),
    "shifted by a slice": lambda p: F.pad(p, (1, 0))[:, :4],
    "cut across interleaved copies": lambda p: torch.stack([p, p.tanh()], 2).flatten(1)[:, :4],
    "read in rows of another length": lambda p: (
        p.reshape(3, 2, 2)[:, :, :1].repeat(1, 1, 2).view(3, 4)[:, ORDER]
    ),
    "cut and joined": lambda p: torch.cat([p[:, 1:], p[:, :1]], 1),
}
PLANES = {
    "convolved along one of two": lambda p: F.conv2d(
        p[:, None], kernel(p, 1, 1, 3, 1), padding=(1, 0))[:, 0],
    "convolved by groups": lambda p: F.conv2d(
        p[None], kernel(p, 1, 1, 3, 1).expand(3, 1, 3, 1), None, 1, (1, 0), (1, 7), 3)[0],
    "convolved and transposed": lambda p: F.conv_transpose2d(
        p[:, None], kernel(p, 1, 1, 3, 1), padding=(1, 0))[:, 0],
    "convolved by name": lambda p: F.conv2d(
        p[:, None], kernel(p, 1, 1, 3, 1), padding="same")[:, 0],
    "the largest along one of two": lambda p: F.max_pool2d(p, (3, 1), 1, (1, 0)),
    "the mean along one of two": lambda p: F.avg_pool2d(p, (3, 1), 1, (1, 0)),
    "resampled to its own width": lambda p: F.interpolate(
        p[None], size=(8, 5), mode="bilinear")[0][:, ::2],
    "a mean for each column": lambda p: F.adaptive_avg_pool2d(p, (2, 5)).repeat(1, 2, 1),
}  # fmt: skip


def free_axes(spec):
    """The size of each axis of `p` that can be permuted, whatever the others do."""
    assert all(group.kind == "permutation" for group in spec.groups.values())
    return [spec.groups[name].size for axis in spec.patterns["p"] for name in groups_in(axis)]


def checked(do, shape):
    """What is found with weights, and the same on the meta device; the function stays."""
    net, scale = Echo(do, shape), torch.ones(1)
    spec = discover(net, scale, strict=True)
    with torch.device("meta"):
        empty = Echo(do, shape)
    assert discover(empty, scale).patterns == spec.patterns
    assert largest_change(net, spec, scale) < 1e-12
    return free_axes(spec)


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_free_while_the_positions_in_them_meet(name):
    assert checked(ROWS[name], (3, 4)) == [3]


@pytest.mark.parametrize("name", PLANES)
def test_an_axis_that_a_kernel_never_mixes_is_free(name):
    assert checked(PLANES[name], (3, 4, 5)) == [3, 5]


def test_a_mean_over_one_of_two_axes_needs_no_order_in_it():
    assert checked(lambda p: F.adaptive_avg_pool2d(p, (1, 5)), (3, 4, 5)) == [3, 4, 5]


def test_a_convolution_across_sequences_leaves_the_units_of_their_values_free():
    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.v, self.o = nn.Linear(6, 8), nn.Linear(8, 3)
            self.c = nn.Conv2d(1, 1, (3, 1), padding=(1, 0))

        def forward(self, x):
            return self.o(self.c(self.v(x)[:, None]).squeeze(1).relu())

    net, x = Narrow(), torch.randn(2, 7, 6)
    spec = discover(net, x, strict=True)
    assert spec.sizes == {"v": 8}
    assert largest_change(net, spec, x) < 1e-12


class Shortcut(nn.Module):
    """Option A of CIFAR ResNets: channels that a shortcut lacks are zeros."""

    def __init__(self, zeros):
        super().__init__()
        self.zeros = zeros
        self.stem, self.wide = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, 2, 1)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        short = F.avg_pool2d(x, 1, 2)
        both = self.wide(x) + torch.cat([short, self.zeros(short)], 1)
        return self.last(both.relu().mean((2, 3)))


ZEROS = {
    "times zero": lambda x: x.mul(0),
    "zero times": lambda x: 0.0 * x,
    "in place": lambda x: x.clone().mul_(0),
    "like": torch.zeros_like,
    "made zero": lambda x: x.clone().zero_(),
    "new": lambda x: x.new_zeros(x.shape),
    "of another": lambda x: torch.zeros_like(x).relu() * 2,
}


@pytest.mark.parametrize("zeros", ZEROS.values(), ids=ZEROS.keys())
def test_channels_that_a_shortcut_fills_with_zeros_are_free(zeros):
    net, x = Shortcut(zeros), torch.randn(2, 3, 8, 8)
    spec = discover(net, x, strict=True)
    assert list(spec.sizes.values()) == [4, 4]
    assert largest_change(net, spec, x) < 1e-12


# The units that are taken, and those that are not: any order of these will do.
LISTS = {
    "one from behind": (lambda x: torch.cat([x[..., :-1], x[..., [-1]]], -1), [5, 1]),
    "two runs": (lambda x: torch.cat([x[:, [4, 5]], x[:, [0, 1, 2, 3]]], 1), [4, 2]),
    "an ellipsis": (lambda x: x[..., [0, 1, 2], None].flatten(1), [3, 3]),
    "the same twice": (lambda x: x[:, [0, 1, 2, 0, 1, 2]], [3, 3]),
    "chosen": (lambda x: x.index_select(-1, torch.tensor([3, 4, 5])), [3, 3]),
}


@pytest.mark.parametrize("name", LISTS)
def test_an_index_by_a_list_of_numbers_takes_slices(name):
    do, expected = LISTS[name]
    width = do(torch.zeros(2, 6)).shape[1]

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(width, 3)

        def forward(self, x):
            return self.last(do(self.first(x)))

    net, x = Listed(), torch.randn(2, 4)
    spec = discover(net, x, strict=True)
    with torch.device("meta"):
        empty = Listed()
    if name != "chosen":  # a tensor that is made on the meta device has no numbers
        assert discover(empty, x).patterns == spec.patterns
    assert sorted(spec.sizes.values()) == sorted(size for size in expected if size > 1)
    assert largest_change(net, spec, x) < 1e-12
