"""Operations without a rule are decomposed by torch; those with a rule are kept."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.errors import DiscoveryError
from symport.symmetry import Example, discover, trace
from symport.symmetry.axes._registry import has_rule
from symport.symmetry.graph._decompose import decomposed

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Something is done to five hidden units."""

    def __init__(self, do):
        super().__init__()
        self.first, self.last, self.do = nn.Linear(4, 5), nn.Linear(5, 2), do

    def forward(self, x):
        return self.last(self.do(self.first(x)))


def operations(do):
    """What is recorded, by name."""
    found = trace(Net(do), Example.of(X), known=has_rule).operations
    return [str(operation.target).split(".")[1] for operation in found]


@pytest.mark.parametrize(
    "do",
    [
        lambda x: x * torch.linalg.norm(x, dim=-1, keepdim=True),
        lambda x: x * F.pairwise_distance(x, x.exp())[:, None],
        lambda x: x / (x > 0).count_nonzero(-1)[:, None].clamp(min=1),
        lambda x: x - x.aminmax(dim=-1, keepdim=True)[0],
        lambda x: torch.vmap(torch.tanh)(x),
    ],
)
def test_what_torch_defines_by_other_operations_is_followed(do):
    assert discover(Net(do), X, strict=True).sizes == {"first": 5}


@pytest.mark.parametrize(
    "do",
    [
        lambda x: x.diff(dim=-1, prepend=x[:, :1] * 0),  # each unit less the one before
        lambda x: x * torch.trapezoid(x, dim=-1)[:, None],  # the first and the last count half
        lambda x: torch.linalg.cross(x[:, :3], x[:, 2:]).repeat(1, 2)[:, :5],
    ],
)
def test_what_treats_units_differently_keeps_them_in_place_when_taken_apart(do):
    assert discover(Net(do), X, strict=True).sizes.get("first", 0) < 5


def test_a_loss_that_a_model_returns_is_followed_to_its_labels():
    class Scored(Net):
        def forward(self, x):
            return F.cross_entropy(super().forward(x), torch.tensor([0, 1, 0, 1, 1, 0]))

    spec = discover(Scored(torch.relu), X, strict=True)
    assert spec.sizes == {"first": 5}
    assert 0 in spec.reasons["last.bias"]


def test_only_what_has_no_rule_is_taken_apart():
    assert operations(lambda x: F.gelu(F.layer_norm(x, (5,))))[1:3] == ["layer_norm", "gelu"]
    found = operations(lambda x: F.layer_norm(x * torch.linalg.norm(x, dim=-1, keepdim=True), (5,)))
    assert "linalg_norm" not in found
    assert {"linalg_vector_norm", "layer_norm", "linear"} <= set(found)


def test_a_program_that_needs_nothing_is_the_same_object():
    program = torch.export.export(Net(torch.relu).eval(), (X,))
    assert decomposed(program, has_rule) is program


def test_a_rule_of_ones_own_comes_before_what_torch_knows():
    from symport.symmetry import register_rule
    from symport.symmetry.axes._registry import RULES, fixed

    def stays(call):
        call.fix(call["self"].axes, "because I say so")
        return fixed(call.shape, "because I say so")

    def net():
        return Net(lambda x: x * torch.linalg.norm(x, dim=-1, keepdim=True))

    register_rule("aten.linalg_norm", stays)
    try:
        assert discover(net(), X).groups == {}
    finally:
        del RULES["aten.linalg_norm"]
    assert discover(net(), X).sizes == {"first": 5}


def test_what_cannot_be_taken_apart_either_is_named():
    spec = discover(Net(lambda x: x * torch.linalg.qr(x)[0][:, :1]), X, strict=True)
    assert spec.groups == {}
    assert "no rule for aten.linalg_qr" in spec.reasons["first.weight"][0]


def test_a_lazy_layer_is_refused_with_what_to_do():
    with pytest.raises(DiscoveryError, match=r"Call `forward` with a dummy batch"):
        discover(nn.Sequential(nn.LazyLinear(5), nn.Linear(5, 2)), X)
