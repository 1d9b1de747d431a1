"""A proof must pass what is right, fail what is wrong, and leave everything as it was."""

import copy
import warnings

import pytest
import torch
from torch import nn

from symport.errors import DiscoveryError, SpecError
from symport.spec import PermutationSpec, show_pattern
from symport.symmetry import discover, register_rule, verify
from symport.symmetry.proof._trial import TOLERANCE
from symport_recipes.networks import Llama
from symport_recipes.networks.zoo._language import RMSNorm


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(36, 2))  # fmt: skip


RIGHT = {
    "0.weight": "c . . .", "0.bias": "c", "1.weight": "c", "1.bias": "c", "1.running_mean": "c",
    "1.running_var": "c", "1.num_batches_tracked": "", "4.weight": ". (c 9)", "4.bias": ".",
}  # fmt: skip
IMAGE = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def spec_of(net, **changes):
    return PermutationSpec.parse({**RIGHT, **changes}, net.state_dict())


def test_a_spec_written_by_hand_passes():
    net = small()
    proof = verify(spec_of(net), net, IMAGE)
    assert proof.error < TOLERANCE
    assert not proof.failed


@pytest.mark.parametrize(
    "wrong",
    [
        {"1.running_mean": "."},
        {"1.running_var": "."},
        {"1.weight": "."},
        {"1.bias": "."},
        {"0.bias": "."},
        {"4.weight": ". (9 c)"},
        {"0.weight": "c . e .", "4.bias": "."},
        {"4.bias": "out", "4.weight": "out (c 9)"},
    ],
)
def test_one_wrong_axis_is_caught_even_where_a_fresh_network_would_hide_it(wrong):
    # A new BatchNorm has gain 1, bias 0, mean 0 and variance 1, so leaving them in place would
    # change nothing: the proof must draw them at random.
    net = small()
    proof = verify(spec_of(net, **wrong), net, IMAGE)
    assert proof.error > 1e-4
    assert proof.failed


def test_only_the_tree_that_is_wrong_is_blamed():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    text = {"0.weight": "a .", "0.bias": ".", "2.weight": "b a", "2.bias": "b", "4.weight": ". b",
            "4.bias": "."}  # fmt: skip
    proof = verify(PermutationSpec.parse(text, net.state_dict()), net, torch.randn(4, 3))
    assert set(proof.failed) == {"a"}


def test_a_nested_group_is_not_confused_with_a_tied_one():
    net = nn.Sequential(nn.Conv1d(3, 6, 1), nn.GroupNorm(2, 6), nn.Conv1d(6, 2, 1))
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]

    def error(units, **sizes):
        texts = [f"{units} . .", units, units, units, f". {units} .", "."]
        spec = PermutationSpec.parse(
            dict(zip(names, texts, strict=True)), net.state_dict(), sizes=sizes
        )
        return verify(spec, net, torch.randn(2, 3, 4)).error

    assert error("(g g/c)", **{"g": 2, "g/c": 3}) < TOLERANCE
    assert error("(g a)", g=2, a=3) < TOLERANCE
    assert error("a") > 1e-4


def test_the_model_its_mode_and_the_random_state_stay_as_they_were():
    net = small().train()
    net[1].eval()
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    state = torch.random.get_rng_state()
    spec = discover(net, IMAGE)
    verify(spec, net, IMAGE)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert net[0].weight.dtype == torch.float32
    assert net[0].weight.requires_grad


def test_a_network_that_computes_in_float32_is_still_proven_to_float64_precision():
    net = nn.Sequential(nn.Linear(4, 6), RMSNorm(6), nn.Linear(6, 2))
    spec = discover(net, torch.zeros(1, 4), strict=True)
    assert verify(spec, net, torch.randn(3, 4)).error < TOLERANCE
    low = Llama(1).bfloat16()
    tokens = torch.tensor([[1, 2, 3]])
    assert verify(discover(low, tokens, strict=True), low, tokens).error < TOLERANCE


def test_a_spec_of_another_network_is_refused():
    with pytest.raises(SpecError, match=r"has shape \(2, 2\)"):
        verify(spec_of(small()), nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2))


def test_weights_without_values_cannot_be_proven():
    with torch.device("meta"):
        net = small()
    with pytest.raises(DiscoveryError, match="meta device"):
        verify(spec_of(net), net, IMAGE)


def test_outputs_that_are_not_finite_do_not_pass_as_equal():
    class Endless(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 4)

        def forward(self, x):
            return torch.where(self.first(x) > 0, float("inf"), 0.0)

    net = Endless()
    spec = PermutationSpec.parse({"first.weight": "h .", "first.bias": "h"}, net.state_dict())
    assert verify(spec, net, torch.randn(5, 3)).failed


def test_outputs_none_of_which_is_finite_prove_nothing():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(DiscoveryError, match=r"Sequential returns nothing finite.*the example"):
        discover(net, torch.full((2, 3), float("inf")))


def test_an_example_of_zeros_proves_as_much_as_any():
    net = small()
    assert verify(spec_of(net), net, torch.zeros(2, 3, 5, 5)).error < TOLERANCE
    wrong = spec_of(net, **{"0.weight": "c . e ."})
    assert verify(wrong, net, torch.zeros(2, 3, 5, 5)).failed


def test_equal_tokens_do_not_hide_that_queries_and_keys_are_turned():
    # Attention to equal tokens is a mean of equal values, whatever the queries and keys.
    net, tokens = Llama(1), torch.zeros(2, 8, dtype=torch.int64)
    spec = discover(net, tokens, strict=True)
    text = {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}
    free = {name: text[name].replace(" 4)", " u)") for name in
            ("layers.0.q.weight", "layers.0.k.weight")}  # fmt: skip
    wrong = PermutationSpec.parse({**text, **free}, net.state_dict(), sizes={**spec.sizes, "u": 4})
    assert verify(wrong, net, tokens).failed


def test_an_index_that_allows_nothing_but_zero_is_left_at_zero():
    net = nn.Sequential(nn.Embedding(1, 4), nn.Linear(4, 2))
    assert discover(net, torch.zeros(3, dtype=torch.int64), strict=True).sizes == {"h0": 4}


@torch.library.custom_op("symport_tests::ramp", mutates_args=())
def ramp(x: torch.Tensor) -> torch.Tensor:
    """Treats its units differently, so none of them can move."""
    return x * torch.arange(x.shape[-1], dtype=x.dtype)


@ramp.register_fake
def _(x):
    return torch.empty_like(x)


# Many rows: with a single one a layer of ReLUs may be dead, and nothing would show.
ROWS = torch.randn(16, 3, generator=torch.Generator().manual_seed(2))


class Ramp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 5)
        self.last = nn.Linear(5, 2)

    def forward(self, x):
        return self.last(self.second(ramp(self.first(x))).relu())


def test_an_operation_without_a_rule_keeps_its_axes_and_is_named():
    spec = discover(Ramp(), torch.zeros(1, 3), strict=True)
    assert spec.sizes == {"second": 5}
    assert "no rule for symport_tests.ramp" in spec.reasons["first.weight"][0]


@pytest.fixture
def wrong_rule():
    from symport.symmetry.axes._registry import RULES

    register_rule("symport_tests.ramp", lambda call: call["x"].axes)
    yield
    del RULES["symport_tests.ramp"]


@pytest.mark.usefixtures("wrong_rule")
def test_a_wrong_rule_is_found_out_and_its_groups_are_dropped():
    with pytest.warns(UserWarning, match=r"change the function when permuted: first \(relative"):
        spec = discover(Ramp(), ROWS)
    assert spec.sizes == {"second": 5}
    assert spec.reasons["first.bias"][0] == "failed its proof"
    assert "failed its proof" in spec.reasons["second.weight"][1]


@pytest.mark.usefixtures("wrong_rule")
def test_a_wrong_rule_is_an_error_if_wanted():
    with pytest.raises(DiscoveryError, match="first"):
        discover(Ramp(), ROWS, strict=True)


def test_a_rule_for_an_operation_of_ones_own():
    from symport.symmetry._terms import tie
    from symport.symmetry.axes._registry import RULES

    @torch.library.custom_op("symport_tests::scaled", mutates_args=())
    def scaled(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x * gain

    @scaled.register_fake
    def _(x, gain):
        return torch.empty_like(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
            self.gain = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.last(scaled(self.first(x), self.gain))

    def rule(call):
        tie(call["x"].axes[-1], call["gain"].axes[0])
        return call["x"].axes

    assert discover(Net(), torch.zeros(1, 3)).groups == {}
    register_rule(torch.ops.symport_tests.scaled, rule)
    try:
        assert discover(Net(), torch.zeros(1, 3), strict=True).sizes == {"gain": 4}
    finally:
        del RULES["symport_tests.scaled"]


def test_nothing_is_warned_about_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        discover(small(), IMAGE)


class Frozen(nn.Module):
    """A BatchNorm whose four vectors are buffers, as in detection networks."""

    scale: torch.Tensor
    shift: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor

    def __init__(self, width):
        super().__init__()
        for name, value in (("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("var", 1.0)):
            self.register_buffer(name, torch.full((width, 1, 1), value))

    def forward(self, x):
        return (x - self.mean) * (self.var + 1e-5).rsqrt() * self.scale + self.shift


def test_buffers_are_constants_unless_they_are_said_to_move():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Frozen(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert discover(net, IMAGE, strict=True).groups == {}
    names = [f"1.{name}" for name in ("scale", "shift", "mean", "var")]
    spec = discover(net, IMAGE, strict=True, moving=names)
    assert spec.sizes == {"h0": 4}
    assert spec.buffers == set(names)
    wrong = PermutationSpec(
        {**spec.patterns, "1.shift": spec.patterns["3.bias"] + spec.patterns["1.var"][1:]},
        spec.groups, spec.buffers,
    )  # fmt: skip
    assert verify(wrong, net, IMAGE).failed


def test_a_moving_buffer_must_exist():
    with pytest.raises(DiscoveryError, match=r"1\.gain"):
        discover(small(), IMAGE, moving=["1.gain"])


def test_what_a_model_stores_on_itself_while_it_runs_does_not_reach_it():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
            self.table = None

        def forward(self, x):
            if self.table is None or self.table.shape[0] != x.shape[0]:
                self.table = torch.arange(x.shape[0], dtype=torch.float32)[:, None].cos()
            return self.last(torch.relu(self.first(x) * self.table))

    net = Caching()
    assert discover(net, torch.randn(2, 3), strict=True).sizes == {"first": 4}
    assert net.table is None


def test_a_model_that_cannot_run_in_float64_is_refused_by_name():
    @torch.library.custom_op("symport_tests::single", mutates_args=())
    def single(x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError("only float32 here")
        return x.clone()

    @single.register_fake
    def _(x):
        return torch.empty_like(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return single(self.last(self.first(x).relu()))

    with pytest.raises(DiscoveryError, match=r"Net cannot be run in float64.*only float32 here"):
        discover(Net(), torch.zeros(1, 3))


@pytest.mark.parametrize("seed", range(8))
def test_a_wrong_group_of_two_units_is_caught_whatever_the_draw(seed):
    # Half of all random permutations of two units are the identity, which would prove anything.
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    text = {"0.weight": "h .", "0.bias": ".", "2.weight": ". h", "2.bias": "."}
    spec = PermutationSpec.parse(text, net.state_dict())
    generator = torch.Generator().manual_seed(seed)
    assert set(verify(spec, net, ROWS, generator=generator).failed) == {"h"}


def test_a_wrong_group_shows_behind_many_layers_of_tiny_weights():
    layers = [nn.Linear(3, 16)]
    for _ in range(20):
        layers += [nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(16, 2))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(0))
    spec = discover(net, torch.randn(16, 3), strict=True)
    text = {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}
    wrong = PermutationSpec.parse({**text, "0.weight": ". ."}, net.state_dict())
    rows = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    assert set(verify(wrong, net, rows).failed) == {"h0"}
