"""Constants and copies tie nothing along axes where all their entries are equal."""

import pytest
import torch
from torch import nn

from symport.symmetry import discover
from symport.symmetry._terms import Term, product, resolve, tie
from symport.symmetry.axes._registry import Value
from symport.symmetry.axes._uniform import copied, distinct_atoms, uniform_atoms

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    """Two hidden layers of five units that meet only in what `share` makes of the input."""

    def __init__(self, share):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(10, 2)
        self.share = share

    def forward(self, x):
        shared = self.share(x)
        hidden = [(layer(x) + shared).relu() for layer in (self.first, self.second)]
        return self.last(torch.cat(hidden, -1))


@pytest.mark.parametrize(
    "share",
    [
        lambda x: torch.zeros(3, 5),
        lambda x: x.new_full((3, 5), 2.0).exp() * 3,
        lambda x: x.new_zeros(3, 1).expand(3, 5) + x.mean(-1, keepdim=True),
        lambda x: x.mean(-1, keepdim=True).repeat(1, 5),
        lambda x: torch.zeros(3, 10)[:, 2:7].masked_fill(x[:, :1] > 0, -1.0),
        lambda x: torch.stack([x.new_zeros(3, 5), x.new_ones(3, 5)]).sum(0),
        lambda x: x.new_empty(3, 5).fill_(1.5),
    ],
)
def test_layers_that_meet_the_same_constant_move_apart(share):
    assert discover(Two(share), X, strict=True).sizes == {"first": 5, "second": 5}


@pytest.mark.parametrize(
    "share",
    [
        lambda x: torch.zeros(3, 5) + x @ torch.randn(4, 5),
        lambda x: torch.zeros(3, 5).slice_scatter(x[:, :2], 1, 3, 5),
        lambda x: torch.zeros(3, 5).scatter(1, x.new_zeros(3, 1).long(), 1.0),
        lambda x: torch.zeros(3, 5).cumsum(-1) + torch.ones(3, 5).cumsum(-1),
        lambda x: torch.ones(5, 5).tril()[2],
        lambda x: torch.ones(3, 5).topk(5, -1)[1] + 0.0,
    ],
)
def test_what_only_begins_as_a_constant_keeps_units_in_place(share):
    sizes = discover(Two(share), X, strict=True).sizes
    assert sum(sizes.values()) < 10


def test_a_shared_tensor_whose_entries_differ_ties_the_layers():
    net = Two(nn.Linear(4, 5))
    assert list(discover(net, X, strict=True).sizes.values()) == [5]


def test_zeros_as_first_state_leave_the_layers_of_an_lstm_apart():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.last = nn.LSTM(4, 6, 2), nn.Linear(6, 2)

        def forward(self, x):
            start = x.new_zeros(1, 1, 1).expand(2, 3, 6)
            return self.last(self.rnn(x[None], (start, start + 1))[0])

    assert len(discover(Reader(), X, strict=True).groups) == 2


def test_a_unit_matrix_ties_the_two_axes_that_it_is_laid_over():
    class Weighted(nn.Module):
        """The update of a layer by its result on a unit matrix, as DoRA adapters have it."""

        def __init__(self, do):
            super().__init__()
            self.first, self.last, self.do = nn.Linear(4, 5), nn.Linear(5, 2), do
            self.a, self.b = nn.Linear(5, 3, bias=False), nn.Linear(3, 2, bias=False)

        def forward(self, x):
            update = self.b(self.a(self.do(torch.eye(5)))).T
            weight = self.last.weight + update
            return self.first(x) @ (weight / weight.norm(dim=1, keepdim=True)).T

    assert discover(Weighted(lambda e: e), X, strict=True).sizes == {"first": 5, "a": 3}
    assert discover(Weighted(lambda e: e + e.flip(0)), X, strict=True).sizes == {"a": 3}
    assert discover(Weighted(lambda e: torch.eye(5, 7)[:, :5]), X, strict=True).sizes == {"a": 3}
    parts = discover(Weighted(lambda e: e * e[0]), X, strict=True)
    assert sorted(parts.sizes.values()) == [3, 4]
    assert not Value("eye", (unit := Term(3), unit), frozenset({unit})).uniform


def test_only_an_atom_that_is_free_and_in_no_input_is_alike():
    a, b, c, stays = Term(2), Term(3), Term(4), Term(5, reason="stays")
    known = distinct_atoms([Value("x", (a, b), frozenset({b}))])
    assert uniform_atoms((product([a, b]), c, stays), known) == {b, c}
    tie(b, Term(3))
    tie(a, c_pair := Term(2))
    assert uniform_atoms((c_pair, c), known) == {c}


def test_a_copy_has_new_atoms_for_what_is_alike_and_the_old_ones_elsewhere():
    a, b = Term(2), Term(3)
    value = Value("x", (product([a, b]), b), frozenset({b}))
    copy = copied(value)
    (new,) = copy.uniform_along
    assert copy.shape == value.shape == (6, 3)
    assert copy.axes[0].children == (a, new)
    assert copy.axes[1] is new is not b
    tie(new, Term(3))
    assert resolve(b) is b
    assert not value.uniform
    assert Value("y", (b,), frozenset({b})).uniform
