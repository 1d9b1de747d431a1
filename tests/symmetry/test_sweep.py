"""What the rules say of single operations and of chains of them holds, before any proof.

Every axis of every tensor is free: all are parameters, and a parameter of its own weighs each
result, so a rule that forgets a tie or a fix changes the sum. The specs come from the meta device,
where there is no proof, and are checked by `witness.py`.
"""

import copy
import random
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from symport.spec import Fixed
from symport.symmetry import discover
from tests.symmetry.operations import elementwise, layouts, products, reductions
from tests.symmetry.operations_in_pairs import unusual
from tests.symmetry.operations_of_layers import Layer, layers, norms, positions
from tests.symmetry.witness import largest_change

pytestmark = pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")  # torch's own: in beta
FAMILIES = (elementwise, reductions, products, layouts, positions, norms, layers, unusual)
OPERATIONS = {name: made for family in FAMILIES for name, *made in family()}
X = torch.tensor([0.7])
SAME = 1e-9


class Free(nn.Module):
    """An operation on parameters, each of whose results is weighed by a parameter."""

    def __init__(self, operation, shapes):
        super().__init__()
        made = isinstance(operation, Layer)
        self.layer = operation.make() if made else None
        self.operation = operation.read if made else operation
        self.given = nn.ParameterList(torch.randn(shape) for shape in shapes)
        with torch.no_grad():
            shapes = [result.shape for result in self.results()]
        self.weights = nn.ParameterList(torch.randn(shape) for shape in shapes)

    def results(self):
        layer = [] if self.layer is None else [self.layer]
        results = self.operation(*layer, *self.given)
        flat = tree_leaves(results)
        return [r for r in flat if r.is_floating_point()]

    def forward(self, x):
        sums = [(r.tanh() * w).sum() for r, w in zip(self.results(), self.weights, strict=True)]
        return torch.stack(sums) * x


def said_by_the_rules(net):
    """The spec without a proof; a rule that breaks down is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "index_reduce")
        return discover(copy.deepcopy(net).to("meta"), X.to("meta"))


def wrong_by(net, elements=8):
    return largest_change(net, said_by_the_rules(net), X, elements=elements)


def made(name):
    torch.manual_seed(0)
    return Free(*OPERATIONS[name])


def test_every_operation_has_a_name_of_its_own():
    assert len(OPERATIONS) == sum(1 for family in FAMILIES for _ in family()) > 700


@pytest.mark.parametrize("part", range(8))
def test_a_slice_of_the_single_operations(part):
    names = list(OPERATIONS)[part::96]
    assert {name: found for name in names if (found := wrong_by(made(name), 4)) > SAME} == {}


def test_the_check_would_notice_a_weight_that_is_left_behind():
    net = made("softmax 1")
    spec = said_by_the_rules(net)
    still = tuple(Fixed() for _ in spec.patterns["weights.0"])
    wrong = replace(spec, patterns={**spec.patterns, "weights.0": still})
    assert largest_change(net, spec, X) < SAME
    assert largest_change(net, wrong, X) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_axis_of_a_single_operation(name):
    assert wrong_by(made(name)) < SAME


UNARY = [
    lambda a, d, r: a.softmax(d), lambda a, d, r: a.sum(d, keepdim=True), lambda a, d, r: a.tanh(),
    lambda a, d, r: a.transpose(0, -1), lambda a, d, r: torch.cat([a, a.sin()], d),
    lambda a, d, r: a.flatten(), lambda a, d, r: a.narrow(d, 0, max(1, a.shape[d] - 1)),
    lambda a, d, r: a.roll(1, d), lambda a, d, r: a - a.mean(d, keepdim=True),
    lambda a, d, r: a.unsqueeze(d), lambda a, d, r: a.repeat_interleave(2, d),
    lambda a, d, r: torch.stack(a.unbind(d), 0), lambda a, d, r: a.cumsum(d),
    lambda a, d, r: torch.cat(a.chunk(2, d)[::-1], d), lambda a, d, r: a.amax(d),
    lambda a, d, r: a.reshape(-1, a.shape[-1]), lambda a, d, r: a.reshape(a.shape[0], -1),
    lambda a, d, r: a.sort(d)[0], lambda a, d, r: a.reshape(-1, 2) if a.numel() % 2 == 0 else a,
    lambda a, d, r: a.reshape(-1, 3) if a.numel() % 3 == 0 else a, lambda a, d, r: a.mT
    if a.ndim > 1 else a, lambda a, d, r: a.unflatten(d, (2, -1)) if a.shape[d] % 2 == 0 else a,
]  # fmt: skip
BINARY = [
    lambda a, b: a + b if a.shape == b.shape else a,
    lambda a, b: a * b if a.shape[-1:] == b.shape else a,
    lambda a, b: a @ b if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] else a,
    lambda a, b: a @ b.mT if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1] else a,
    lambda a, b: torch.cat([a, b], -1) if a.shape[:-1] == b.shape[:-1] else a,
    lambda a, b: torch.tensordot(a, b, 1) if a.shape[-1:] == b.shape[:1] and a.ndim < 3 else a,
    lambda a, b: a[..., None] * b if a.ndim < 3 and b.ndim == 1 else a,
]


def chain(seed):
    """Two to five operations, each on what was given or on an earlier result."""

    def run(*given):
        draw, values = random.Random(seed), list(given)
        for _ in range(2 + seed % 4):
            a, b = values[-1] if draw.random() < 0.7 else draw.choice(values), draw.choice(values)
            if draw.random() < 0.35:
                new = draw.choice(BINARY)(a, b)
            else:
                new = draw.choice(UNARY)(a, draw.randrange(a.ndim), draw) if a.ndim else a
            values.append(new if 0 < new.numel() < 400 else new.flatten()[:1])
        return values[len(given) :]

    sizes = random.Random(-seed)
    shapes = [tuple(sizes.choice([2, 3, 4, 6]) for _ in range(n)) for n in (2, 2, 1, 3)]
    return Free(run, shapes)


def wrong_chains(seeds):
    found = {}
    for seed in seeds:
        torch.manual_seed(seed)
        off = wrong_by(chain(seed), 4)
        if off > SAME:
            found[seed] = off
    return found


def test_a_slice_of_the_random_chains():
    assert wrong_chains(range(24)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 600, 50))
def test_random_chains(start):
    assert wrong_chains(range(start, start + 50)) == {}
