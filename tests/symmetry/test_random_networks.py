"""Random networks, built from layers that rules cover: whatever is found must be proven."""

import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from symport.spec import groups_in
from symport.symmetry import discover, verify

TOKENS, WIDTH = 4, 12
POINTWISE = (F.relu, F.gelu, torch.tanh, F.silu)


class Residual(nn.Module):
    def __init__(self, hidden, act):
        super().__init__()
        self.norm, self.act = nn.LayerNorm(WIDTH), act
        self.up, self.down = nn.Linear(WIDTH, hidden), nn.Linear(hidden, WIDTH)

    def forward(self, x):
        return x + self.down(self.act(self.up(self.norm(x))))


class Gated(nn.Module):
    def __init__(self, hidden, act):
        super().__init__()
        self.act = act
        self.both, self.down = nn.Linear(WIDTH, 2 * hidden), nn.Linear(hidden, WIDTH)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1)
        return self.down(self.act(gate) * up)


class Attention(nn.Module):
    """Fused rows in one of three layouts, with as many query heads for each key head as wanted."""

    def __init__(self, layout, share, scale):
        super().__init__()
        self.layout, self.share, self.scale = layout, share, scale
        self.heads, self.units = 4, 3
        self.kv = self.heads // share
        self.q = nn.Linear(WIDTH, self.heads * self.units)
        self.kv_rows = nn.Linear(WIDTH, 2 * self.kv * self.units)
        self.out = nn.Linear(self.heads * self.units, WIDTH)

    def forward(self, x):
        n, t, _ = x.shape
        q = self.q(x).view(n, t, self.heads, self.units).transpose(1, 2)
        rows = self.kv_rows(x)
        if self.layout == "stacked":
            k, v = rows.view(n, t, 2, self.kv, self.units).permute(2, 0, 3, 1, 4)
        elif self.layout == "chunked":
            k, v = (r.view(n, t, self.kv, self.units).transpose(1, 2) for r in rows.chunk(2, -1))
        else:
            k, v = rows.view(n, t, self.kv, 2 * self.units).transpose(1, 2).chunk(2, -1)
        k, v = (r.repeat_interleave(self.share, 1) for r in (k, v))
        scores = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return x + self.out((scores @ v).transpose(1, 2).flatten(2))


class Concat(nn.Module):
    def __init__(self, left, norm):
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, left), nn.Linear(WIDTH, 12 - left)
        self.norm = nn.GroupNorm(norm, 12)
        self.out = nn.Linear(12, WIDTH)

    def forward(self, x):
        both = torch.cat([self.a(x), F.relu(self.b(x))], -1)
        return self.out(self.norm(both.transpose(1, 2)).transpose(1, 2))


class Reshaped(nn.Module):
    """Rows read as outer x inner; the inner ones are mixed by a small layer or only normalised."""

    def __init__(self, outer, kind):
        super().__init__()
        self.outer, self.inner, self.kind = outer, WIDTH // outer, kind
        self.rows, self.mix = nn.Linear(WIDTH, WIDTH), nn.Linear(self.inner, self.inner)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        y = self.rows(x).unflatten(-1, (self.outer, self.inner))
        if self.kind == "mix":
            y = F.relu(self.mix(y))
        elif self.kind == "softmax":
            y = y.softmax(-1)
        elif self.kind == "swap":
            y = y.transpose(-1, -2)
        elif self.kind == "outer":
            y = y - y.mean(-2, keepdim=True)
        return self.out(y.flatten(-2))


class Convolved(nn.Module):
    """Channels over tokens, with groups that may or may not fit those of the norm."""

    def __init__(self, groups, norm, kernel):
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, 12, kernel, padding="same", groups=groups)
        self.norm = nn.BatchNorm1d(12) if norm == 0 else nn.GroupNorm(norm, 12)
        self.out = nn.Conv1d(12, WIDTH, 1)

    def forward(self, x):
        return self.out(F.relu(self.norm(self.conv(x.transpose(1, 2))))).transpose(1, 2)


class Tied(nn.Module):
    """The same layer twice."""

    def __init__(self, act):
        super().__init__()
        self.layer, self.act = nn.Linear(WIDTH, WIDTH), act

    def forward(self, x):
        return self.layer(self.act(self.layer(x)))


class Recurrent(nn.Module):
    def __init__(self, kind, both):
        super().__init__()
        self.rnn = kind(WIDTH, 5, batch_first=True, bidirectional=both)
        self.out = nn.Linear(10 if both else 5, WIDTH)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


def blocks():
    act = st.sampled_from(POINTWISE)
    width = st.sampled_from([2, 5])
    return st.one_of(
        st.builds(Residual, width, act),
        st.builds(Gated, width, act),
        st.builds(Attention, st.sampled_from(["stacked", "chunked", "headwise"]),
                  st.sampled_from([1, 2, 4]), st.just(0.5)),
        st.builds(Concat, st.sampled_from([4, 5, 6, 8]), st.sampled_from([1, 2, 3, 6, 12])),
        st.builds(Reshaped, st.sampled_from([2, 3, 6]),
                  st.sampled_from(["mix", "softmax", "swap", "outer", "none"])),
        st.builds(Convolved, st.sampled_from([1, 2, 3, 12]), st.sampled_from([0, 2, 3, 4]),
                  st.sampled_from([1, 3])),
        st.builds(Tied, act),
        st.builds(Recurrent, st.sampled_from([nn.LSTM, nn.GRU]), st.booleans()),
    )  # fmt: skip


class Network(nn.Module):
    def __init__(self, layers, pooled):
        super().__init__()
        self.first = nn.Linear(5, WIDTH)
        self.layers = nn.Sequential(*layers)
        self.pooled = pooled
        self.head = nn.Linear(WIDTH if pooled else TOKENS * WIDTH, 3)

    def forward(self, x):
        x = self.layers(self.first(x))
        return self.head(x.mean(1) if self.pooled else x.flatten(1))


def check(layers, pooled):
    net = Network(layers, pooled)
    x = torch.randn(2, TOKENS, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A mean over tokens of what a norm has centred over tokens has no effect but rounding.
        warnings.filterwarnings("ignore", message="the effect of .* is lost in rounding")
        spec = discover(net, x, strict=True)
    assert verify(spec, net, x, generator=torch.Generator().manual_seed(1)).error < 1e-10
    assert not {reason for found in spec.reasons.values() for reason in found.values()
                if "no rule" in reason}  # fmt: skip
    return spec


UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
quick = settings(deadline=None, max_examples=5, suppress_health_check=UNHURRIED)


@quick
@given(st.lists(blocks(), min_size=1, max_size=2), st.booleans())
def test_whatever_is_found_in_a_random_network_is_proven(layers, pooled):
    check(layers, pooled)


@pytest.mark.slow
@settings(deadline=None, max_examples=300, suppress_health_check=UNHURRIED)
@given(st.lists(blocks(), min_size=1, max_size=5), st.booleans())
def test_whatever_is_found_in_a_large_random_network_is_proven(layers, pooled):
    check(layers, pooled)


@quick
@given(blocks(), st.booleans())
def test_the_output_stays_and_the_first_layer_can_move_or_says_why_not(block, pooled):
    spec = check([block], pooled)
    assert not list(groups_in(spec.patterns["head.weight"][0]))
    moves = bool(list(groups_in(spec.patterns["first.weight"][0])))
    assert moves or 0 in spec.reasons["first.weight"]
