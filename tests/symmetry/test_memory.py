"""Tensors that share memory are one: the witness is the memory of torch itself."""

import random

import pytest
import torch
from torch import nn

from symport.spec import Permutation, permute
from symport.symmetry import discover
from symport.symmetry.graph._storage import Place, overlap


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def load_elements(net: nn.Module, spec, draws: int = 3):
    """Load permuted weights; yields what was loaded and what the model then holds."""
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for seed in range(draws):
        loaded = permute(state, spec, Permutation.random(spec, seeded(seed)))
        net.load_state_dict(loaded)
        yield loaded, {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_state_dict(state)


def holds(net: nn.Module, spec, x: torch.Tensor) -> bool:
    """Whether the model takes the weights as they are, and computes what it did."""
    net = net.double()
    before = net(x.double()).detach()
    return all(
        all(torch.equal(after[name], tensor) for name, tensor in loaded.items())
        and torch.allclose(net(x.double()).detach(), before, rtol=1e-12, atol=1e-12)
        for loaded, after in load_elements(net, spec)
    )


class Autoencoder(nn.Module):
    """Two layers into a narrow space and out of it; `tie` makes them share memory."""

    def __init__(self, tie=None):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.encode, self.decode = nn.Linear(8, 4), nn.Linear(4, 8)
        self.tie = tie
        if tie is not None:
            tie(self)

    def forward(self, x):
        return self.last(self.decode(self.encode(self.first(x).relu()).relu()).relu())

    def _apply(self, change):
        super()._apply(change)
        if self.tie is not None:
            self.tie(self)  # casting gives each parameter memory of its own
        return self


def transposed(net):
    net.decode.weight.data = net.encode.weight.data.t()


def on_meta(make):
    with torch.device("meta"):
        return make()


X = torch.randn(5, 6, generator=seeded(0))


def test_a_transposed_weight_is_permuted_with_the_one_whose_memory_it_is():
    net = Autoencoder(transposed)
    spec = discover(net, X, strict=True)
    assert sorted(spec.sizes.values()) == [4, 8]  # by hand: what encode reads is what decode writes
    assert holds(net, spec, X)
    assert not holds(net, discover(Autoencoder(), X, strict=True), X)  # the check can fail


def test_without_weights_the_same_is_found():
    assert str(discover(on_meta(lambda: Autoencoder(transposed)), X)) == str(
        discover(Autoencoder(transposed), X, strict=True)
    )


def of_one_memory(net):
    memory = torch.randn(2 * 32 + 12, dtype=net.encode.weight.dtype, generator=seeded(1)).double()
    memory = memory.to(net.encode.weight.dtype)
    net.encode.weight.data = memory[:32].view(4, 8)
    net.decode.weight.data = memory[32:64].view(8, 4)
    net.encode.bias.data, net.decode.bias.data = memory[64:68], memory[68:]


def test_parts_of_one_memory_that_do_not_overlap_are_tied_in_no_way():
    net = Autoencoder(of_one_memory)  # as optimizers and distributed training lay weights out
    spec = discover(net, X, strict=True)
    assert str(spec) == str(discover(Autoencoder(), X, strict=True))
    assert holds(net, spec, X)


def cut_across(net):
    net.decode.weight.data = net.encode.weight.data.view(8, 4)


def every_other(net):
    net.decode.bias.data = torch.as_strided(net.encode.weight.data, (8,), (3,))


def test_a_weight_that_is_read_in_another_shape_keeps_what_both_shapes_share():
    net = Autoencoder(cut_across)
    spec = discover(net, X, strict=True)
    assert spec.groups
    assert holds(net, spec, X)


def test_memory_shared_in_a_tangled_way_stays_and_both_tensors_are_named():
    net = Autoencoder(every_other)
    spec = discover(net, X, strict=True)
    assert "encode.weight and decode.bias share memory" in spec.reasons["decode.bias"][0]
    assert "encode.weight and decode.bias share memory" in spec.reasons["encode.weight"][0]
    assert holds(net, spec, X)


def test_a_tensor_whose_entries_are_one_stays():
    net = Autoencoder()
    net.encode.weight = nn.Parameter(torch.randn(1, 8).expand(4, 8), requires_grad=False)
    spec = discover(net, X, strict=True)
    assert "encode.weight share memory with each other" in spec.reasons["encode.weight"][0]
    assert "encode" not in spec.groups


def test_a_view_that_is_no_parameter_keeps_its_weight_in_place():
    class Viewed(Autoencoder):
        views: list[torch.Tensor]

        def forward(self, x):
            return super().forward(x) * self.views[0].cumsum(0).cumsum(1).sum()

    def look(net):
        net.views = [net.encode.weight.detach().t()]

    net = Viewed(look)
    spec = discover(net, X, strict=True)
    assert "encode" not in spec.groups
    assert "share memory" in spec.reasons["encode.weight"][0]
    assert holds(net, spec, X)


def test_a_row_that_is_a_parameter_too_is_a_unit_of_its_own():
    class Row(Autoencoder):
        row: nn.Parameter

        def forward(self, x):
            hidden = self.encode(self.first(x).relu()).relu() + self.row[:4].sum()
            return self.last(self.decode(hidden).relu())

    def take(net):
        if not hasattr(net, "row"):
            net.row = nn.Parameter(torch.zeros(8))
        net.row.data = net.encode.weight.data[2]

    net = Row(take)
    spec = discover(net, X, strict=True)
    assert holds(net, spec, X)
    assert 2 in spec.sizes.values()  # the two rows before it; it and the last one are alone


def test_memory_that_only_one_tensor_uses_moves_with_it():
    def wide(net):
        if not hasattr(net, "memory"):
            net.memory = nn.Parameter(torch.randn(9, 8))
        net.encode.weight.data = net.memory.data[2:6]

    net = Autoencoder(wide)
    spec = discover(net, X, strict=True)
    assert sorted(spec.sizes.values()) == [4, 8, 8]
    assert "not used" in spec.reasons["memory"][0]
    assert holds(net, spec, X)


class Views(nn.Module):
    """Random views of one memory, each of which may be permuted along any axis as it pleases."""

    def __init__(self, seed: int):
        super().__init__()
        draw = random.Random(seed)
        shape = draw.choice([(6, 4), (2, 3, 4), (12, 2), (4, 4)])
        memory = torch.arange(64.0)[draw.choice([0, 8]) :][: torch.Size(shape).numel()].view(shape)
        found = [memory, *(self.view(memory, draw) for _ in range(draw.choice([1, 1, 2, 3])))]
        self.views = nn.ParameterList([nn.Parameter(torch.zeros(v.shape)) for v in found])
        for parameter, view in zip(self.views, found, strict=True):
            parameter.data = view

    @staticmethod
    def view(tensor, draw: random.Random):
        for _ in range(draw.choice([1, 2, 3])):
            dim = draw.randrange(tensor.ndim) if tensor.ndim else 0
            match draw.randrange(5):
                case 0:
                    tensor = tensor.transpose(dim, 0)
                case 1 if tensor.is_contiguous() and tensor.numel() % 2 == 0:
                    tensor = tensor.reshape(-1, draw.choice([2, tensor.shape[-1]]))
                case 2 if tensor.shape[dim] > 2:
                    tensor = tensor.narrow(dim, draw.choice([0, 1]), tensor.shape[dim] - 1)
                case 3 if tensor.ndim > 1:
                    tensor = tensor.select(dim, draw.randrange(tensor.shape[dim]))
                case 4 if tensor.shape[dim] > 3:
                    tensor = tensor[::2] if draw.random() < 0.5 else tensor
                case _:
                    pass
        return tensor

    def forward(self, x):
        return x * torch.stack([(view**3).sum() for view in self.views])


@pytest.mark.parametrize("seed", range(40))
def test_permuted_views_of_one_memory_agree_where_they_overlap(seed):
    net = Views(seed)
    spec = discover(net, torch.ones(len(net.views)))
    for loaded, after in load_elements(net, spec, draws=6):
        assert all(torch.equal(after[name], tensor) for name, tensor in loaded.items())


def test_many_random_views_can_still_be_permuted():
    free = [bool(discover(Views(s), torch.ones(len(Views(s).views))).groups) for s in range(12)]
    assert sum(free) > 4


@pytest.mark.parametrize("seed", range(30))
def test_overlap_is_what_writing_shows(seed):
    draw = random.Random(seed)
    memory = torch.zeros(6, 4)
    a, b = (Views.view(memory, draw) for _ in range(2))
    a += 1
    assert overlap(Place.of(a), Place.of(b)) == bool(b.any())
