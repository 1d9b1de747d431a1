"""What a state dict renames, changes or leaves out: permuted weights are loaded as users do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.errors import DiscoveryError
from symport.spec import Permutation, permute
from symport.symmetry import discover
from symport.symmetry.graph._state_dict import saved


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(5, 6, generator=seeded(0))


class Net(nn.Module):
    """Two hidden layers, whose second weight meets something on its way to a file."""

    def __init__(self):
        super().__init__()
        self.first, self.mid, self.last = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)
        self.hook()

    def hook(self):
        """Nothing unusual."""

    def forward(self, x):
        return self.last(self.mid(self.first(x).relu()).relu())


def change_by_loading(make, spec) -> float:
    """Largest relative change of the output of a model that loads permuted weights."""
    torch.manual_seed(0)
    net, worst = make().double().eval(), 0.0
    before = net(X.double()).detach()
    state = {n: t.clone() if torch.is_tensor(t) else t for n, t in net.state_dict().items()}
    tensors = {name: value for name, value in state.items() if torch.is_tensor(value)}
    for seed in range(3):
        moved = permute(tensors, spec, Permutation.random(spec, seeded(seed)))
        net.load_state_dict({**state, **moved})
        after = net(X.double()).detach()
        worst = max(worst, float((after - before).abs().max() / before.abs().max()))
    return worst


class Renamed(Net):
    def hook(self):
        self._register_state_dict_hook(self.out)
        self.register_load_state_dict_pre_hook(self.back)

    @staticmethod
    def out(module, state, prefix, _):
        state[f"{prefix}middle"] = state.pop(f"{prefix}mid.weight")

    @staticmethod
    def back(module, state, prefix, *_):
        state[f"{prefix}mid.weight"] = state.pop(f"{prefix}middle")


class Transposed(Renamed):
    @staticmethod
    def out(module, state, prefix, _):
        state[f"{prefix}middle"] = state.pop(f"{prefix}mid.weight").t()

    @staticmethod
    def back(module, state, prefix, *_):
        state[f"{prefix}mid.weight"] = state.pop(f"{prefix}middle").t()


class Split(Renamed):
    @staticmethod
    def out(module, state, prefix, _):
        weight = state.pop(f"{prefix}mid.weight")
        state[f"{prefix}a"], state[f"{prefix}b"] = weight[:3], weight[3:]

    @staticmethod
    def back(module, state, prefix, *_):
        parts = [state.pop(f"{prefix}{name}") for name in "ab"]
        state[f"{prefix}mid.weight"] = torch.cat(parts)


class Turned(Renamed):
    """Under its own name, but with its rows in another order."""

    @staticmethod
    def out(module, state, prefix, _):
        state[f"{prefix}mid.weight"] = state[f"{prefix}mid.weight"].flip(0)

    @staticmethod
    def back(module, state, prefix, *_):
        state[f"{prefix}mid.weight"] = state[f"{prefix}mid.weight"].flip(0)


class TurnedOnLoading(Net):
    """The file is right; loading turns it twice, which nobody can know of a hook."""

    def _load_from_state_dict(self, state, prefix, *args):
        name = f"{prefix}mid.weight"
        state[name] = state[name].flip(0).flip(0)
        super()._load_from_state_dict(state, prefix, *args)


class LeftOut(Net):
    def hook(self):
        self._register_state_dict_hook(self.out)

    @staticmethod
    def out(module, state, prefix, _):
        del state[f"{prefix}mid.weight"]

    def load_state_dict(self, state_dict):
        return super().load_state_dict(state_dict, strict=False)


class MadeAnew(Net):
    def hook(self):
        self.fill(None)
        self.register_load_state_dict_post_hook(self.fill)

    def fill(self, *_):
        table = torch.linspace(-1, 1, 56).reshape(7, 8).sin()
        self.mid.weight.data.copy_(table)


class AssignedAnew(Net):
    def hook(self):
        self.fill(None)
        self.register_load_state_dict_post_hook(self.fill)

    def fill(self, *_):
        table = torch.linspace(-1, 1, 56, device=self.mid.weight.device).reshape(7, 8).cos()
        self.mid.weight = nn.Parameter(table.to(self.mid.weight.dtype), requires_grad=False)


class Extra(Net):
    def hook(self):
        self.gains = torch.linspace(1, 2, 7)

    def get_extra_state(self):
        return self.gains

    def set_extra_state(self, state):
        self.gains = state

    def forward(self, x):
        return self.last(self.mid(self.first(x).relu()).relu() * self.gains.to(x.dtype))


class ExtraSettings(Net):
    def get_extra_state(self):
        return {"version": 3}

    def set_extra_state(self, state):
        pass


class NotPersistent(Net):
    def hook(self):
        self.norm = nn.BatchNorm1d(7)
        self.norm.register_buffer("running_mean", torch.linspace(-1, 1, 7), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.mid(self.first(x).relu())))


class Parametrized(Net):
    def hook(self):
        nn.utils.parametrizations.weight_norm(self.mid)


KEPT = [Transposed, Split, Turned, TurnedOnLoading, LeftOut, MadeAnew, AssignedAnew]


@pytest.mark.parametrize(
    "kind", [*KEPT, Renamed, Extra, ExtraSettings, NotPersistent, Parametrized]
)
def test_permuted_weights_load_to_the_same_function(kind):
    torch.manual_seed(0)
    spec = discover(kind(), X, strict=True)
    assert change_by_loading(kind, spec) < 1e-12
    with torch.device("meta"):
        outline = kind()
    assert str(discover(outline, X)) == str(spec)


@pytest.mark.parametrize("kind", KEPT)
def test_a_weight_that_does_not_pass_as_it_is_stays_and_is_named(kind):
    spec = discover(kind(), X, strict=True)
    assert {"first", "mid"}.isdisjoint(spec.groups)
    assert any("mid.weight" in why or "state" in why for why in spec.reasons["mid.bias"].values())
    # The check can fail: the spec of the plain network changes this one.
    plain = discover(Net(), X, strict=True)
    if kind().state_dict().keys() == plain.patterns.keys() and kind is not TurnedOnLoading:
        assert change_by_loading(kind, plain) > 1e-3


def test_a_renamed_weight_moves_under_its_new_name():
    spec = discover(Renamed(), X, strict=True)
    assert sorted(spec.sizes.values()) == [7, 8]
    assert "middle" not in spec.reasons  # no axis of it stays


def test_statistics_that_a_file_lacks_keep_their_units():
    spec = discover(NotPersistent(), X, strict=True)
    assert "mid" not in spec.groups
    assert "norm.running_mean" in spec.reasons["norm.running_var"][0]


def test_a_fused_weight_that_a_hook_splits():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(24, 8))
            self._register_state_dict_hook(self.out)
            self._register_load_state_dict_pre_hook(self.back)

        @staticmethod
        def out(module, state, prefix, _):
            parts = state.pop(f"{prefix}weight").chunk(3)
            state.update(dict(zip([f"{prefix}{name}" for name in "qkv"], parts, strict=True)))

        def back(self, state, prefix, *_):
            state[f"{prefix}weight"] = torch.cat([state.pop(f"{prefix}{name}") for name in "qkv"])

        def forward(self, x):
            return F.linear(x, self.weight)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.qkv, self.last = nn.Linear(6, 8), Fused(), nn.Linear(8, 2)

        def forward(self, x):
            x = self.first(x)
            q, k, v = self.qkv(x).chunk(3, -1)
            return self.last(x + (q @ k.transpose(0, 1)).softmax(-1) @ v)

    with torch.device("meta"):
        outline = Attention()
    for spec in (discover(Attention(), X, strict=True), discover(outline, X)):
        assert change_by_loading(Attention, spec) < 1e-12
        assert "qkv.weight" in spec.reasons["first.weight"][0]


def test_the_model_is_left_as_found_by_hooks_that_hold_on_to_it():
    class Holding(Net):
        def hook(self):
            model = self

            def clear(module, state, *_):
                model.mid.weight.data.zero_()

            self.register_load_state_dict_pre_hook(clear)

    net = Holding()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = saved(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert found.names == {name: name for name in before}


def test_a_model_that_cannot_load_its_own_state_dict_is_refused():
    class Broken(Net):
        def hook(self):
            self.register_load_state_dict_pre_hook(lambda *_: [].pop())

    with pytest.raises(DiscoveryError, match=r"Broken cannot load its own state dict: IndexError"):
        discover(Broken(), X)


def test_tied_and_plain_weights_are_held_as_they_are():
    net = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "n": nn.BatchNorm1d(3)})
    net["b"].weight = net["a"].weight
    found = saved(net)
    assert found.fixed == {}
    assert found.names["b.weight"] == "a.weight"
    assert found.names["n.running_var"] == "n.running_var"
