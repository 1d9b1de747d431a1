"""Operations in place: read as ordinary ones only where nothing else sees what they overwrite."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from symport.symmetry import discover
from symport.symmetry.graph._functionalize import functional

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, do):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 2)
        self.do = do

    def forward(self, x):
        return self.last(self.do(self.first(x), self.second(x)))


def overwrites_a_sum(x, y):
    return (x + y).relu_()


def overwrites_what_is_read_later(x, y):
    z = x + y
    F.relu_(z)
    return z * x


def overwrites_what_was_read_before(x, y):
    z = x + y
    w = z.tanh()
    return z.relu_() + w


def overwrites_through_a_view(x, y):
    z = x + y
    z[:, :2].mul_(2)
    return z + x


def overwrites_what_a_dropout_passes_on(x, y):
    z = F.dropout(x, training=False)
    return x + F.relu_(z) + y


@pytest.mark.parametrize(
    ("do", "kept"),
    [
        (overwrites_a_sum, True),
        (overwrites_what_is_read_later, True),
        (overwrites_what_was_read_before, False),
        (overwrites_through_a_view, False),
        (overwrites_what_a_dropout_passes_on, False),
    ],
)
def test_an_operation_in_place_is_read_as_another_only_if_nobody_sees_it(do, kept):
    program = torch.export.export(Net(do).eval(), (X,), strict=False)
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    assert all(functional(node) is not None for node in nodes) == kept
    sizes = discover(Net(do), X, strict=True).sizes
    assert sum(sizes.values()) == 5


def test_what_is_no_operation_of_torch_is_left_as_it_is():
    graph = fx.Graph()
    assert functional(graph.call_function(len, ([],))) is len


def test_the_ordinary_operation_has_the_same_overload():
    graph = fx.Graph()
    x = graph.placeholder("x")
    total = graph.call_function(torch.ops.aten.add.Tensor, (x, x))
    node = graph.call_function(torch.ops.aten.mul_.Scalar, (total, 2))
    assert functional(node) is torch.ops.aten.mul.Scalar
    assert functional(graph.call_function(torch.ops.aten.relu_.default, (x,))) is None
