"""What passes for rounding: right groups of ill-conditioned networks, never small wrong effects."""

import warnings

import pytest
import torch
from torch import nn

from symport.errors import DiscoveryError
from symport.spec import Fixed, PermutationSpec
from symport.symmetry import discover, verify

ROWS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class Chaotic(nn.Module):
    """A hidden layer, then the logistic map, which doubles every rounding error each time."""

    def __init__(self, times):
        super().__init__()
        self.first, self.last, self.times = nn.Linear(3, 4), nn.Linear(4, 2), times

    def forward(self, x):
        y = torch.sigmoid(self.last(self.first(x).tanh()))
        for _ in range(self.times):
            y = 3.99 * y * (1 - y)
        return y


class Steep(nn.Module):
    """The further its weights are from those given, the more it amplifies rounding."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.last(self.first(x).tanh())
        for _ in range(20):
            h = h + torch.sin(3 * h * self.last.weight.std() * 3)
        return h


class Faint(nn.Module):
    """Two hidden layers, the second of which hardly counts."""

    def __init__(self, share):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
        self.c, self.d = nn.Linear(4, 2), nn.Linear(4, 2)
        self.share = share

    def forward(self, x):
        return self.c(self.a(x).tanh()) + self.share * self.d(self.b(x).tanh())


FAINT = {"a.weight": "a .", "a.bias": "a", "b.weight": "b .", "b.bias": "b",
         "c.weight": ". a", "c.bias": ".", "d.weight": ". b", "d.bias": "."}  # fmt: skip


def faint(share, **changes):
    net = Faint(share)
    return net, PermutationSpec.parse({**FAINT, **changes}, net.state_dict())


@pytest.mark.parametrize("times", [5, 15, 20])
def test_a_network_that_amplifies_rounding_keeps_its_groups(times):
    spec = discover(Chaotic(times), ROWS, strict=True)
    assert spec.sizes == {"first": 4}


def test_steepness_is_met_with_a_milder_draw():
    assert discover(Steep(), ROWS, strict=True).sizes == {"first": 4}


def test_a_network_whose_rounding_drowns_everything_is_refused():
    with pytest.raises(
        DiscoveryError, match=r"Chaotic amplifies rounding too much.*change an outp"
    ):
        discover(Chaotic(200), ROWS)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-8, 1e-10])
def test_a_wrong_group_that_hardly_counts_is_caught(share, seed):
    net, wrong = faint(share, **{"d.weight": ". ."})
    proof = verify(wrong, net, ROWS, generator=torch.Generator().manual_seed(seed))
    assert set(proof.failed) == {"b"}


@pytest.mark.parametrize("share", [1e-16, 1e-20, 1e-30])
def test_a_group_whose_effect_is_lost_in_rounding_is_named(share):
    net, wrong = faint(share, **{"d.weight": ". ."})
    proof = verify(wrong, net, ROWS)
    assert not proof.failed
    assert proof.unseen == ("b",)
    with pytest.warns(UserWarning, match=r"the effect of b on the outputs is lost in rounding"):
        discover(net, ROWS)


def test_weights_of_a_millionth_hide_nothing():
    net, wrong = faint(1.0, **{"d.weight": ". ."})
    with torch.no_grad():
        for parameter in [*net.b.parameters(), *net.d.parameters()]:
            parameter.mul_(1e-6)
    assert set(verify(wrong, net, ROWS).failed) == {"b"}


def test_what_no_output_depends_on_is_no_matter_for_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proof = verify(faint(0.0)[1], faint(0.0)[0], ROWS)
    assert not proof.failed
    assert proof.unseen == ()


def test_two_wrongs_in_one_spec_are_both_blamed_and_what_is_right_is_kept():
    layers = [nn.Linear(3, 4)]
    for _ in range(9):
        layers += [nn.Tanh(), nn.Linear(4, 4)]
    net = nn.Sequential(*layers, nn.Tanh(), nn.Linear(4, 2))
    spec = discover(net, ROWS, strict=True)
    stay = {"2.bias": (Fixed(),), "12.bias": (Fixed(),)}
    wrong = PermutationSpec({**spec.patterns, **stay}, spec.groups)
    assert set(verify(wrong, net, ROWS).failed) == {"h2", "h12"}


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.first, self.last, self.what = nn.Linear(3, 4), nn.Linear(4, 2), what

    def forward(self, x):
        return self.what(self.last(self.first(x).tanh()))


RIGHT = {"first.weight": "h .", "first.bias": "h", "last.weight": ". h", "last.bias": "."}


@pytest.mark.parametrize(
    "select",
    [lambda out: None, lambda out: 1.0, lambda out: (), lambda out: {}, lambda out: out.argmax(-1)],
    ids=["None", "a number", "nothing", "an empty mapping", "places"],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_selection_with_nothing_to_compare_is_refused(select, device):
    net = Returns(lambda y: y).to(device)
    with pytest.raises(DiscoveryError, match=r"`select` picks .* no floating-point.*as tensors"):
        discover(net, ROWS, select=select)
    if device == "cpu":
        spec = PermutationSpec.parse(RIGHT, net.state_dict())
        with pytest.raises(DiscoveryError, match="no floating-point tensor"):
            verify(spec, net, ROWS, select=select)


def test_a_network_that_returns_labels_alone_is_refused_with_a_remedy():
    with pytest.raises(
        DiscoveryError, match=r"Returns: what it returns holds no .*pass a `select`"
    ):
        discover(Returns(lambda y: y.argmax(-1)), ROWS)


def test_labels_beside_scores_must_stay_exactly():
    net = Returns(lambda y: (y, y.argmax(-1), y > 0))
    assert discover(net, ROWS, strict=True).sizes == {"first": 4}
    text = {**RIGHT, "last.weight": "o h", "last.bias": "o"}
    wrong = PermutationSpec.parse(text, net.state_dict())
    only = verify(wrong, net, ROWS, select=lambda out: (out[0].sum(-1), out[1]))
    assert set(only.failed) == {"o"}


def test_complex_outputs_are_compared():
    net = Returns(lambda y: torch.fft.fft(y.to(torch.complex64)))
    assert discover(net, ROWS, strict=True).sizes == {"first": 4}
    wrong = PermutationSpec.parse({**RIGHT, "first.bias": "."}, net.state_dict())
    assert set(verify(wrong, net, ROWS).failed) == {"h"}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_networks_in_half_precision_are_proven_in_double(kind):
    net = Returns(lambda y: y).to(kind)
    assert discover(net, ROWS.to(kind), strict=True).sizes == {"first": 4}
    spec = PermutationSpec.parse(RIGHT, net.state_dict())
    assert verify(spec, net, ROWS.to(kind)).error < 1e-13
    wrong = PermutationSpec.parse({**RIGHT, "first.bias": "."}, net.state_dict())
    assert set(verify(wrong, net, ROWS.to(kind)).failed) == {"h"}
