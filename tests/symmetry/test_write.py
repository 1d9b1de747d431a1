"""Looking up and writing at places that indices, masks or maxima give."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.spec import show_pattern
from symport.symmetry import discover

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
EDGES = torch.tensor([0, 2, 2, 5])
UNITS = torch.tensor([3, 1])


class Net(nn.Module):
    """Something is done to the five hidden units of six rows."""

    def __init__(self, do):
        super().__init__()
        self.first, self.last, self.do = nn.Linear(4, 5), nn.Linear(5, 2), do

    def forward(self, x):
        return self.last(self.do(self.first(x).relu()))


def overwritten(x, places, value):
    y = x.clone()
    y[places] = value
    return y


@pytest.mark.parametrize(
    "do",
    [
        lambda x: overwritten(x, x < 0.1, 0.0),
        lambda x: overwritten(x, x.sum(-1) > 0, 1.0),
        lambda x: overwritten(x, x.sum(-1) > 0, x.mean(0)),
        lambda x: overwritten(x, EDGES, 0.5),
        lambda x: overwritten(x, EDGES[:2], x[3:5]),
    ],
    ids=["entries", "rows", "rows by a vector", "indices", "indices by rows"],
)
def test_units_move_where_entries_or_rows_are_overwritten(do):
    assert discover(Net(do), X, strict=True).sizes == {"first": 5}


@pytest.mark.parametrize(
    ("do", "free"),
    [
        (lambda x: overwritten(x, (slice(None), UNITS), 0.0), 0),
        (lambda x: overwritten(x, torch.tensor([[True, False, True, False, True]] * 6), 0.0), 0),
        (lambda x: x.index_fill(1, UNITS, 0.0), 0),
        (lambda x: x.index_add(1, UNITS, x[:, :2]), 0),
    ],
    ids=["indices", "a constant mask", "index_fill", "index_add"],
)
def test_units_stay_where_some_of_them_are_overwritten(do, free):
    assert sum(discover(Net(do), X, strict=True).sizes.values()) == free


@pytest.mark.parametrize(
    "gather",
    [
        lambda x: x.new_zeros(6, 5).index_add(0, EDGES, x[:4]),
        lambda x: x.new_zeros(6, 5).index_copy(0, EDGES[:2], x[:2]),
        lambda x: x.new_zeros(6, 5).scatter_reduce(0, EDGES[:, None].expand(4, 5), x[:4], "mean"),
        lambda x: x.new_zeros(6, 5).index_put((EDGES,), x[EDGES], accumulate=True),
    ],
    ids=["index_add", "index_copy", "scatter_reduce", "index_put"],
)
def test_messages_between_the_nodes_of_a_graph_move_with_the_units(gather):
    assert discover(Net(gather), X, strict=True).sizes == {"first": 5}


def test_written_where_the_largest_are_found_units_move():
    def do(x):
        best = x.topk(1, -1)[1].flatten()
        return x.new_zeros(6, 5).T.contiguous().index_put((best[:1],), x.new_ones(())).T + x

    assert sum(discover(Net(do), X, strict=True).sizes.values()) <= 5


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_embeddings_moves_its_columns_and_keeps_its_rows(mode):
    net = nn.Sequential(nn.EmbeddingBag(9, 5, mode=mode), nn.Linear(5, 2))
    spec = discover(net, torch.tensor([[1, 4, 0], [8, 3, 3]]), strict=True)
    assert show_pattern(spec.patterns["0.weight"]) == ". h0"
    assert spec.sizes == {"h0": 5}


def test_a_codebook_moves_its_entries_and_its_units():
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)
            self.codes = nn.Parameter(torch.randn(7, 5))

        def forward(self, x):
            return self.last(self.codes[torch.cdist(self.first(x), self.codes).argmin(-1)])

    spec = discover(Quantised(), X, strict=True)
    codes, units = show_pattern(spec.patterns["codes"]).split()
    assert (spec.sizes[codes], spec.sizes[units]) == (7, 5)
    assert show_pattern(spec.patterns["first.bias"]) == units


IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "do",
    [
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), (2, 2)),
        lambda x: F.fold(F.unfold(x, 2, stride=2), (8, 8), 2, stride=2),
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
        lambda x: F.adaptive_max_pool2d(x, 1),
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 2),
        lambda x: F.interpolate(x, size=(4, 4), mode="area"),
    ],
    ids=["unpool", "fold", "nearest-exact", "global maximum", "Fourier", "area"],
)
def test_what_works_on_positions_leaves_channels_free(do):
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)

        def forward(self, x):
            return self.last(do(self.first(x)))

    assert discover(Image(), IMAGE, strict=True).sizes == {"first": 5}


def test_a_fourier_transform_over_units_keeps_them_in_place():
    spec = discover(Net(lambda x: torch.fft.fft(x).real), X, strict=True)
    assert spec.groups == {}
    assert "frequencies" in spec.reasons["first.weight"][0]


def test_a_diagonal_ties_the_axes_that_it_is_taken_of():
    spec = discover(Net(lambda x: (x[:, :, None] * x[:, None]).diagonal(dim1=1, dim2=2)), X)
    assert spec.sizes == {"first": 5}
    spec = discover(Net(lambda x: torch.diag_embed(x).sum(-1)), X, strict=True)
    assert spec.sizes == {"first": 5}
    spec = discover(Net(lambda x: torch.diag_embed(x, offset=1).sum(-1)[:, :5]), X, strict=True)
    assert sum(spec.sizes.values()) < 5
