"""A spec names what ties the units of a group: the operation that combines them, and its layer."""

import torch
from torch import nn

from symport.spec import PermutationSpec, fix
from symport.symmetry import discover
from symport.symmetry.axes._ties import describe_ties


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 6)

    def forward(self, x):
        return x + self.down(self.up(x) * self.gate(x).sigmoid())


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x):
        return torch.stack([self.one(x), self.two(x)]).tanh().prod(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(4, 2)
        self.blocks, self.heads = nn.Sequential(*(Block() for _ in range(4))), Heads()

    def forward(self, x):
        return self.last(self.heads(self.blocks(self.first(x))))


X = torch.randn(2, 3)
TIES = {
    "first": "add (in blocks.0, blocks.1 and 2 more)",
    **{f"blocks.{k}.gate": f"mul (in blocks.{k})" for k in range(4)},
    "heads.one": "stack (in heads)",
}


def test_each_group_that_values_meet_in_says_where():
    spec = discover(Net(), X, strict=True)
    assert {name.replace("up", "gate"): tie for name, tie in spec.ties.items()} == TIES


def test_layers_are_named_alike_if_outputs_are_selected_and_without_weights():
    with torch.device("meta"):
        net = Net()
    assert set(discover(net, X, select=lambda out: out).ties.values()) == set(TIES.values())


def test_a_layer_that_only_reads_its_weights_ties_nothing_that_is_told():
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    assert discover(net, X, strict=True).ties == {}


def test_ties_are_saved_and_specs_of_before_are_read():
    spec = discover(Net(), X, strict=True)
    assert PermutationSpec.from_json(spec.to_json()).ties == spec.ties
    old = spec.to_json().replace('"ties"', '"other"')
    assert PermutationSpec.from_json(old).ties == {}


def test_a_group_that_is_dropped_takes_its_ties_along():
    spec = discover(Net(), X, strict=True)
    assert "first" not in fix(spec, ["first"], "failed").ties


def test_operations_without_a_known_layer_are_named_alone():
    assert describe_ties([("cat", ""), ("cat", ""), ("add", "a")]) == "cat, add (in a)"
