"""Recurrent layers and cells: what is found against all permutations tried, and distinct states.

The networks of the first part read nothing but weights, so every axis of every input is free; what
they return is a sum over all entries of the results, each with a weight of its own.
"""

import math
from itertools import permutations, product

import pytest
import torch
from elements import largest_change
from torch import nn

from symport.spec import groups_in, show_pattern
from symport.symmetry import discover

SIZE, BATCH, STEPS = 3, 2, 2
ORDERS = [list(order) for order in permutations(range(SIZE))]
PAIRS = [[0, 1], [1, 0]]
X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def order_of(spec, names):
    """The number of elements of the groups."""
    groups = [spec.groups[name] for name in names]
    assert all(group.kind == "permutation" for group in groups)
    rows = [math.prod(spec.shape_of(name)[:-1]) for name in names]
    return math.prod(math.factorial(g.size) ** n for g, n in zip(groups, rows, strict=True))


class Free(nn.Module):
    """One layer, or one step of a cell, of which the input and the states are weights too."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(SIZE, SIZE)
        self.is_cell = "Cell" in kind.__name__
        one = (BATCH, SIZE) if self.is_cell else (1, BATCH, SIZE)
        self.x = nn.Parameter(drawn(*([] if self.is_cell else [STEPS]), BATCH, SIZE))
        states = 2 if "LSTM" in kind.__name__ else 1
        self.states = nn.ParameterList(drawn(*one) + k for k in range(states))
        shapes = [one] * states if self.is_cell else [self.x.shape, *[one] * states]
        self.weights = nn.ParameterList(drawn(*shape) - k for k, shape in enumerate(shapes))

    def results(self):
        states = [*self.states]
        found = self.rnn(self.x, tuple(states) if len(states) > 1 else states[0])
        ends = found if self.is_cell else found[1]
        ends = ends if isinstance(ends, tuple) else (ends,)
        return ends if self.is_cell else (found[0], *ends)

    def forward(self, scale):
        found = zip(self.results(), self.weights, strict=True)
        return scale * sum((result * weight).sum() for result, weight in found)


def reordered(net, time, batch, starts, units, columns):
    """The results when each axis of the inputs takes an order of its own."""
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state["x"] = state["x"][..., batch, :] if net.is_cell else state["x"][time][:, batch]
    for k, start in enumerate(starts):
        state[f"states.{k}"] = state[f"states.{k}"][..., start, :][..., units]
    for name in (name for name in state if name.startswith("rnn.")):
        gates = state[name].unflatten(0, (-1, SIZE))[:, units]
        state[name] = (gates[..., columns] if "weight_hh" in name else gates).flatten(0, 1)
    return torch.func.functional_call(_Results(net), {f"net.{k}": t for k, t in state.items()}, ())


class _Results(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self):
        return self.net.results()


def only_reordered(found, results):
    """Whether each result is what it was, with its axes in some other order."""
    pairs = list(zip(found, results, strict=True))
    if not all(torch.allclose(a.flatten().sort()[0], b.flatten().sort()[0]) for a, b in pairs):
        return False
    return all(any(torch.allclose(a, moved) for moved in all_orders(b)) for a, b in pairs)


def all_orders(tensor):
    for orders in product(*(permutations(range(size)) for size in tensor.shape)):
        moved = tensor
        for dim, order in enumerate(orders):
            moved = moved.index_select(dim, torch.tensor(order))
        yield moved


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_with_every_axis_free_exactly_the_orders_that_reorder_the_results_are_found(kind):
    net = Free(kind).double()
    state_count, times = len(net.states), [None] if net.is_cell else PAIRS
    with torch.no_grad():
        results = net.results()
        count = sum(
            only_reordered(reordered(net, time, batches[0], batches[1:], units, columns), results)
            for time, units, *batches in product(times, ORDERS, *[PAIRS] * (1 + state_count))
            for columns in (ORDERS if state_count == 1 else [units])
        )
    spec = discover(net.float(), torch.ones(1), strict=True)
    names = {name for pattern in spec.patterns.values() for axis in pattern
             for name in groups_in(axis)}  # fmt: skip
    inputs = math.factorial(SIZE)  # the columns of weight_ih, which go with the last axis of x
    assert order_of(spec, names) == count * inputs == 2 * 6 * 6
    assert largest_change(net, spec, torch.ones(1)) < 1e-12


class Classifier(nn.Module):
    """What is read of the last states, of two layers or both directions."""

    def __init__(self, kind, read, width, **options):
        super().__init__()
        self.rnn = kind(4, 6, batch_first=True, **options)
        self.read, self.last = read, nn.Linear(width, 3)

    def forward(self, x):
        _, ends = self.rnn(x)
        h, c = ends if isinstance(ends, tuple) else (ends, ends)
        return self.last(self.read(h, c))


LAYERS = {"num_layers": 2}
BOTH = {"bidirectional": True}
DEEP = {"num_layers": 2, "bidirectional": True}

# The groups that are counted by hand: units of each layer and direction, unless something adds
# them or gives them one weight.
READS = {
    "the last layer": (lambda h, c: h[-1], 6, LAYERS, [6, 6]),
    "the last layer by narrow": (lambda h, c: h.narrow(0, 1, 1).squeeze(0), 6, LAYERS, [6, 6]),
    "the cells of the first layer": (lambda h, c: c[0], 6, LAYERS, [6]),
    "both directions joined": (lambda h, c: torch.cat([h[0], h[1]], 1), 12, BOTH, [6, 6]),
    "the last two": (lambda h, c: torch.cat([h[-2], h[-1]], 1), 12, DEEP, [6] * 4),
    "both, laid flat": (lambda h, c: h[-2:].transpose(0, 1).flatten(1), 12, DEEP, [6] * 4),
    "by layer and direction": (
        lambda h, c: torch.cat(h.view(2, 2, -1, 6)[-1].unbind(0), -1), 12, DEEP, [6] * 4),
    "all, laid flat": (
        lambda h, c: h.permute(1, 0, 2).reshape(h.shape[1], -1), 24, DEEP, [6] * 4),
    "hidden units and cells": (
        lambda h, c: torch.cat((h[-1], c[-1]), -1), 12, LAYERS, [6, 6]),
    "after a function of each entry": (lambda h, c: torch.tanh(h)[-1], 6, LAYERS, [6, 6]),
    "directions added": (lambda h, c: h[-2:].sum(0), 6, DEEP, [6] * 3),
    "layers added, directions joined": (
        lambda h, c: torch.cat(h.view(2, 2, -1, 6).sum(0).unbind(0), -1), 12, DEEP, [6, 6]),
    "the mean of all": (lambda h, c: h.mean(0), 6, DEEP, [6]),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_layers_and_directions_have_units_of_their_own_unless_they_are_added(kind, name):
    read, width, options, expected = READS[name]
    net = Classifier(kind, read, width, **options)
    spec = discover(net, X, strict=True)
    assert list(spec.sizes.values()) == expected
    assert largest_change(net, spec, X) < 1e-12


def test_hidden_units_and_cells_of_a_projected_layer_are_told_apart():
    read = READS["hidden units and cells"][0]
    net = Classifier(nn.LSTM, read, 9, num_layers=2, proj_size=3)
    spec = discover(net, X, strict=True)
    assert sorted(spec.sizes.values()) == [3, 3, 6, 6]
    rows = show_pattern(spec.patterns["last.weight"])
    assert rows == ". (rnn.weight_hr_l1 + rnn.weight_ih_l1)"
    assert largest_change(net, spec, X) < 1e-12


class Started(nn.Module):
    """A layer that starts from learned states."""

    def __init__(self, start, **options):
        super().__init__()
        self.rnn, self.start = nn.GRU(4, 6, 2, **options), start
        self.one, self.two = nn.Parameter(drawn(1, 6)), nn.Parameter(drawn(6))
        self.both, self.made = nn.Parameter(drawn(2, 1, 6)), nn.Linear(4, 12)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.rnn(x.transpose(0, 1), self.start(self, x))[1][-1])


STARTS = {
    "of each layer": (lambda net, x: torch.stack([net.one[0], net.two])[:, None].expand(
        2, x.shape[0], 6).contiguous(), [6, 6]),
    "of both layers in one tensor": (lambda net, x: net.both.repeat(1, x.shape[0], 1), [6]),
    "made of the input": (lambda net, x: net.made(x[:, 0]).view(-1, 2, 6).transpose(
        0, 1).contiguous(), [6, 6]),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
def test_first_states_are_told_apart_unless_one_tensor_holds_them(name):
    start, expected = STARTS[name]
    net = Started(start)
    spec = discover(net, X, strict=True)
    assert list(spec.sizes.values()) == expected
    assert largest_change(net, spec, X) < 1e-12


def test_an_encoder_hands_the_state_of_each_layer_to_the_same_layer_of_a_decoder():
    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.LSTM(4, 6, 2), nn.LSTM(4, 6, 2)
            self.last = nn.Linear(6, 3)

        def forward(self, x):
            return self.last(self.decoder(x.flip(0), self.encoder(x)[1])[0])

    net = Translator()
    spec = discover(net, X, strict=True)
    assert list(spec.sizes.values()) == [6, 6]
    assert largest_change(net, spec, X) < 1e-12


def test_a_sequence_without_a_batch_is_read_alike():
    net = Classifier(nn.LSTM, lambda h, c: h[-1], 6, **DEEP)
    spec = discover(net, X[0], strict=True)
    assert list(spec.sizes.values()) == [6] * 3
    assert largest_change(net, spec, X[0]) < 1e-12


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_learned_first_states_of_a_cell_move_with_the_outputs_they_lead_to(kind):
    class Modes(nn.Module):
        """Three guesses at what comes next, each from a state of its own."""

        def __init__(self):
            super().__init__()
            self.start, self.cell = nn.Parameter(drawn(3, 6)), kind(4, 6)
            self.last = nn.Linear(18, 2)

        def forward(self, x):
            n = len(x)
            h = self.start.expand(n, 3, 6).reshape(3 * n, 6)
            x = x[:, :1].expand(n, 3, 4).reshape(3 * n, 4)
            found = self.cell(x, (h, h) if kind is nn.LSTMCell else h)
            h = found[0] if kind is nn.LSTMCell else found
            return self.last(h.reshape(n, 18))

    net = Modes()
    spec = discover(net, X, strict=True)
    assert sorted(spec.sizes.values()) == [3, 6]
    assert show_pattern(spec.patterns["start"]) == "start cell.weight_ih"
    assert largest_change(net, spec, X) < 1e-12


# Stacks of other tensors: what is read of them, and the groups that are counted by hand.
class Heads(nn.Module):
    def __init__(self, read, width):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(4, 6) for _ in range(3))
        self.read, self.last = read, nn.Linear(width, 2)

    def forward(self, x):
        return self.last(self.read([head(x[:, 0]).relu() for head in self.heads]))


STACKED = {
    "laid flat": (lambda hs: torch.stack(hs, 1).flatten(1), 18, [6, 6, 6]),
    "laid flat, units first": (lambda hs: torch.stack(hs, -1).flatten(1), 18, [6]),
    "joined, then split": (
        lambda hs: torch.cat(torch.cat([h[None] for h in hs]).unbind(0), -1), 18, [6, 6, 6]),
    "two of three": (lambda hs: torch.stack(hs)[1:].permute(1, 0, 2).flatten(1), 12, [6, 6]),
    "every second": (lambda hs: torch.cat(torch.stack(hs)[::2].unbind(), 1), 12, [6, 6]),
    "parts of a split": (
        lambda hs: torch.stack(hs).tanh().split([1, 2])[1].sum(0), 6, [6]),
    "some units of each": (
        lambda hs: torch.stack(hs, 1)[..., :4].flatten(1), 12, [4, 2] * 3),
    "pairs of units": (
        lambda hs: torch.stack(hs, 1).view(-1, 3, 2, 3).sum(2).flatten(1), 9, [2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKED)
def test_a_stack_that_is_taken_apart_again_ties_nothing(name):
    read, width, expected = STACKED[name]
    net = Heads(read, width)
    spec = discover(net, X, strict=True)
    assert list(spec.sizes.values()) == expected
    assert largest_change(net, spec, X) < 1e-12
