"""One unusual call keeps the axes that it touches in place, not the whole model."""

import random

import pytest
import torch
from torch import nn
from torch._higher_order_ops import while_loop
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from symport.spec import Permutation, permute
from symport.symmetry import discover, register_rule
from symport.symmetry._terms import tie
from symport.symmetry.axes._registry import RULES


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed(model: nn.Module, spec, inputs, draws: int = 3) -> float:
    """Largest relative change of the output when the model loads permuted weights, in float64."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=seeded(7), dtype=parameter.dtype)
            parameter.copy_(parameter + 0.3 * noise)
        before = model(inputs)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        worst = 0.0
        for seed in range(draws):
            element = Permutation.random(spec, seeded(seed))
            model.load_state_dict(permute(state, spec, element))
            worst = max(worst, float((model(inputs) - before).abs().max() / before.abs().max()))
        model.load_state_dict(state)
    return worst


class Between(nn.Module):
    """Two layers with hidden units of their own around something unusual."""

    def __init__(self, do, width: int = 6):
        super().__init__()
        self.hidden, self.first = nn.Linear(4, 7), nn.Linear(7, width)
        self.last: nn.Linear = nn.LazyLinear(3)
        self.do = do

    def forward(self, x):
        return self.last(self.do(self.first(self.hidden(x).relu())))


X = torch.randn(5, 4, generator=seeded(0))


def built(do, width: int = 6) -> nn.Module:
    net = Between(do, width)
    net(X)
    return net


class Broadcast(nn.Module):
    """Attention whose queries, keys or mask are given once for the whole batch."""

    def __init__(self, queries: int, keys: int, mask: tuple[int, ...] | None = None):
        super().__init__()
        self.into, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.q = nn.Parameter(torch.randn(queries, 2, 4, 4))
        self.k = nn.Parameter(torch.randn(keys, 2, 5, 4))
        self.mask = None if mask is None else nn.Parameter(torch.randn(mask))

    def forward(self, x):
        v = self.into(x).view(3, 5, 2, 4).transpose(1, 2)
        seen = F.scaled_dot_product_attention(self.q, self.k, v, attn_mask=self.mask)
        return self.out(seen.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    "net",
    [Broadcast(1, 3), Broadcast(1, 1), Broadcast(3, 1), Broadcast(1, 1, (2, 4, 5)),
     Broadcast(1, 3, (1, 1, 1, 5)), Broadcast(1, 1, (4, 5)), Broadcast(1, 1, (1, 1, 4, 5))],
)  # fmt: skip
def test_attention_broadcasts_over_the_batch(net):
    x = torch.randn(3, 5, 6, generator=seeded(1)).double()
    spec = discover(net.double(), x, strict=True)
    # By hand: heads, the units of queries and keys in each, and those of values in each.
    assert {(2,), (2, 4)} <= {spec.shape_of(name) for name in spec.groups}
    assert sum(spec.shape_of(name) == (2, 4) for name in spec.groups) == 2
    assert changed(net, spec, x) < 1e-12


@pytest.mark.parametrize("mask", [None, (1, 1, 4, 5), (1, 4, 4, 5)])
def test_grouped_queries_broadcast_over_the_batch(mask):
    class Grouped(Broadcast):
        def __init__(self):
            super().__init__(1, 1, mask)
            self.q = nn.Parameter(torch.randn(1, 4, 4, 4))
            self.out = nn.Linear(16, 3)

        def forward(self, x):
            v = self.into(x).view(3, 5, 2, 4).transpose(1, 2)
            seen = F.scaled_dot_product_attention(
                self.q, self.k, v, attn_mask=self.mask, enable_gqa=True
            )
            return self.out(seen.transpose(1, 2).flatten(2))

    x = torch.randn(3, 5, 6, generator=seeded(1)).double()
    net = Grouped().double()
    spec = discover(net, x, strict=True)
    assert {(2,), (2, 2), (2, 4)} <= {spec.shape_of(name) for name in spec.groups}
    assert changed(net, spec, x) < 1e-12


@pytest.mark.parametrize(
    ("do", "sizes"),
    [
        (lambda x: torch.cat([(p := x.split([4, 2, 0], -1))[0], p[1] * 2, p[2]], -1), [2, 4]),
        (lambda x: torch.cat([x.split([0, 6], -1)[0], x], -1), [6]),
        (lambda x: torch.cat([x[:, :0], x.relu(), x[:, 6:]], -1), [6]),
        (lambda x: x + x.split([5, 0])[1].sum(), [6]),
        (lambda x: torch.cat(torch.tensor_split(x, (2, 2), -1)[::2], -1), [2, 4]),
        (lambda x: torch.cat([x, x.new_zeros(5, 0)], -1).narrow(-1, 0, 6), [6]),
    ],
)
def test_parts_without_entries_keep_nothing_in_place(do, sizes):
    net = built(do)
    spec = discover(net, X, strict=True)
    assert sorted(spec.sizes.values()) == [*sizes, 7]
    assert changed(net, spec, X.double()) < 1e-12


class Slots(nn.Module):
    """Each learned slot takes the prototype that it likes best, which its own weights say."""

    def __init__(self, look):
        super().__init__()
        self.likes = nn.Parameter(torch.randn(4, 3))
        self.prototypes = nn.Parameter(torch.randn(3, 5))
        self.gains = nn.Parameter(torch.randn(4, 5))
        self.look = look

    def forward(self, x):
        return x @ (self.look(self.prototypes, self.likes) * self.gains).sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "look",
    [
        lambda p, likes: p[likes.argmax(1)],
        lambda p, likes: F.embedding(likes.argmax(1), p),
        lambda p, likes: F.one_hot(likes.argmax(1), 3).to(p) @ p,
        lambda p, likes: p[likes.topk(2, 1)[1]].sum(1),
        lambda p, likes: p[likes.argmin(1)].relu(),
        lambda p, likes: p[likes.mean(0).argmax()][None],
    ],
)
def test_weights_that_look_up_weights_are_followed_or_stay(look):
    net = Slots(look)
    spec = discover(net, X, strict=True)
    assert spec.groups  # at least the entries of a prototype
    assert changed(net, spec, X.double(), draws=8) < 1e-12


SHAPES = {"ab": (4, 3), "bc": (3, 5), "ac": (4, 5), "b": (3,), "cc": (5, 5), "abc": (4, 3, 5)}


class Lookups(nn.Module):
    """A random chain of products and of look-ups by the places of the largest weights."""

    def __init__(self, seed: int):
        super().__init__()
        drawn = {n: torch.randn(s, generator=seeded(seed)) for n, s in SHAPES.items()}
        self.weights = nn.ParameterDict({n: nn.Parameter(w) for n, w in drawn.items()})
        self.seed = seed

    def step(self, draw: random.Random, values: list, places: list) -> None:
        value, other = draw.choice(values), draw.choice(values)
        dim = draw.randrange(value.ndim)
        match draw.randrange(5):
            case 0:
                places.append((value.argmax(dim), value.shape[dim]))
            case 1 if places:
                index, size = draw.choice(places)
                fits = [v for v in values if v.shape[:1] == (size,)]
                if fits and index.ndim:
                    values.append(draw.choice(fits)[index])
            case 2 if value.shape == other.shape:
                values.append(value * other)
            case 3:
                values.append(value.softmax(dim))
            case _ if value.ndim == other.ndim == 2 and value.shape[1] == other.shape[0]:
                values.append(value @ other)
            case _:
                pass

    def forward(self, x):
        draw, places = random.Random(self.seed), []
        values = [x, *self.weights.values()]
        while len(values) < 11:
            self.step(draw, values, places)
        return torch.stack([v.sum() if v.numel() % 2 else (v * v).mean() for v in values[6:]])


@pytest.mark.filterwarnings("ignore:the effect of weights.bc")  # softmax, summed: 1 whatever
@pytest.mark.parametrize("seed", range(6))
def test_random_chains_of_look_ups(seed):
    net, x = Lookups(seed), torch.randn(4, 5, generator=seeded(1))
    spec = discover(net, x, strict=True)
    assert changed(net, spec, x.double(), draws=8) < 1e-10


class Fourier(nn.Module):
    """A layer of a Fourier neural operator: complex weights mix channels at each frequency."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 2, 1)
        self.mix = nn.Parameter(torch.randn(6, 6, 4, dtype=torch.cfloat))

    def forward(self, x):
        spectrum = torch.fft.rfft(self.into(x))
        mixed = torch.einsum("bix,iox->box", spectrum[:, :, :4], self.mix)
        return self.out(torch.fft.irfft(mixed, n=16))


class Phases(nn.Module):
    """Complex numbers made of two real ones, and split again."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(6, 8), nn.Linear(10, 2)
        self.pairs = nn.Parameter(torch.randn(8, 5, 2))
        self.phase = nn.Parameter(torch.randn(8))

    def forward(self, x):
        hidden = torch.polar(self.into(x).relu() + 1, self.phase.expand(len(x), 8))
        hidden = hidden @ torch.view_as_complex(self.pairs)
        return self.out(torch.view_as_real(hidden * hidden.abs()).flatten(1))


def test_complex_weights_are_proven():
    net, x = Fourier(), torch.randn(2, 3, 16, generator=seeded(1))
    spec = discover(net, x, strict=True)
    assert sorted(spec.sizes.values()) == [6, 6]  # by hand: channels before and behind
    net.double().mix.data = net.mix.data.to(torch.complex128)
    before, state = net(x.double()), {n: t.clone() for n, t in net.state_dict().items()}
    net.load_state_dict(permute(state, spec, Permutation.random(spec, seeded(1))))
    assert float((net(x.double()) - before).detach().abs().max()) < 1e-10


def test_complex_numbers_made_of_real_ones():
    net, x = Phases(), torch.randn(4, 6, generator=seeded(1)).double()
    spec = discover(net, x, strict=True)
    assert sorted(spec.sizes.values()) == [5, 8]
    assert changed(net, spec, x) < 1e-12


@pytest.mark.parametrize(
    ("transform", "kept"),
    [
        (lambda x: torch.fft.fft2(x, dim=(1, 2)).abs(), {7}),
        (lambda x: torch.fft.fftn(x).abs(), {7}),
        (lambda x: torch.fft.rfft(x, dim=1).abs(), {6, 7}),
        (lambda x: torch.fft.fftshift(x, dim=0), {6, 7}),
        (lambda x: torch.fft.ifft(torch.fft.fft(x, dim=0), dim=0).real, {6, 7}),
        (lambda x: torch.fft.rfftn(x, s=(4, 4)).imag, {7}),
    ],
)
def test_transforms_keep_the_axes_in_place_that_they_mix(transform, kept):
    class Net(Between):
        def forward(self, x):
            hidden = self.first(self.hidden(x).relu()).view(5, 2, 6)
            return self.last(transform(hidden))

    net, x = Net(None), torch.randn(10, 4, generator=seeded(0))
    net(x)
    spec = discover(net, x, strict=True)
    assert set(spec.sizes.values()) == kept
    assert changed(net, spec, x.double()) < 1e-12


class Flex(nn.Module):
    """Attention with flex_attention, whose scores may be changed by what is learned."""

    def __init__(self, change=None, mask=None):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)
        self.bias = nn.Parameter(torch.randn(2, 5, 5))
        self.change, self.mask = change, mask

    def forward(self, x):
        q, k, v = (z.view(2, 5, 2, 4).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        change, added = None, self.change
        if added is not None:

            def change_score(score, b, h, i, j):
                return added(self.bias, score, h, i, j)

            change = change_score

        seen = flex_attention(q, k, v, score_mod=change, block_mask=self.mask)
        return self.out(seen.transpose(1, 2).flatten(2))


def causal():
    return create_block_mask(lambda b, h, i, j: i >= j, None, None, 5, 5, device="cpu")


@pytest.mark.parametrize(
    ("net", "shapes"),
    [
        (Flex(), [(2,), (2, 4), (2, 4)]),  # heads, and units in each, as in any attention
        (Flex(lambda bias, score, h, i, j: score + bias[h, i, j]), [(4,), (4,)]),
        (Flex(lambda bias, score, h, i, j: score * (h + 1)), [(4,), (4,)]),
        (Flex(mask=causal()), [(4,), (4,)]),
    ],
)
def test_flex_attention_keeps_what_its_functions_tell_apart(net, shapes):
    x = torch.randn(2, 5, 8, generator=seeded(1))
    spec = discover(net, x, strict=True)
    assert sorted(spec.shape_of(name) for name in spec.groups) == shapes
    with torch.no_grad():
        assert changed(net, spec, x.double()) < 1e-12


def test_a_branch_that_torch_knows_keeps_what_it_is_given_in_place():
    class Branch(Between):
        def __init__(self):
            super().__init__(None)
            self.a, self.b, self.last = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x):
            hidden = self.first(self.hidden(x).relu())
            return self.last(
                torch.cond(hidden.sum() > 0, self.a, lambda h: self.b(h).cos(), (hidden,))
            )

    net = Branch()
    spec = discover(net, X, strict=True)
    assert spec.sizes == {"hidden": 7}
    assert "cond" in spec.reasons["a.weight"][1]
    assert changed(net, spec, X.double()) < 1e-12


def test_a_loop_that_torch_knows_keeps_what_it_is_given_in_place():
    class Loop(Between):
        def forward(self, x):
            def again(count, h):
                return count + 1, (h @ self.turn).relu()

            hidden = self.first(self.hidden(x).relu())
            start = (torch.zeros((), dtype=torch.int64), hidden)
            _, hidden = while_loop(lambda n, _: n < 3, again, start)
            return self.last(hidden)

    net = Loop(None)
    net.turn = nn.Parameter(torch.randn(6, 6))
    net.last = nn.Linear(6, 3)
    assert discover(net, X, strict=True).sizes == {"hidden": 7}


def ties_too_much(call):
    tie(*call["self"].axes)
    return call["self"].axes


def other_shape(call):
    return (*call["self"].axes, *call["self"].axes)


@pytest.mark.parametrize(
    ("rule", "cause"),
    [
        (ties_too_much, "length 5 to one of length 6"),
        (other_shape, r"gives the shape \(5, 6, 5, 6\), not \(5, 6\)"),
        (lambda call: [(), ()], "describes 2 results, there are 1"),
        (lambda call: call["no such argument"], "KeyError"),
        (lambda call: 1 // 0, "ZeroDivisionError"),
        (lambda call: torch.zeros(2) + torch.zeros(3), "RuntimeError"),
        (lambda call: None, "TypeError"),
    ],
)
def test_a_rule_that_breaks_down_keeps_only_what_it_touches_in_place(rule, cause, monkeypatch):
    monkeypatch.setitem(RULES, "aten.sinh", rule)
    net = built(torch.sinh)
    with pytest.warns(UserWarning, match=rf"the rule for aten\.sinh.* failed: .*{cause}"):
        spec = discover(net, X)
    assert spec.sizes == {"hidden": 7}
    assert "failed" in spec.reasons["first.bias"][0]
    assert changed(net, spec, X.double()) < 1e-12


def test_what_a_rule_noted_before_it_broke_down_does_not_count(monkeypatch):
    def notes_and_breaks(call):
        call.together(call["self"].axes[0])
        call.finds(0, call["self"].axes[1])
        call.takes(call["self"], 1, [range(2)])
        raise LookupError("after all")

    monkeypatch.setitem(RULES, "aten.sinh", notes_and_breaks)
    with pytest.warns(UserWarning, match="after all"):
        spec = discover(built(torch.sinh), X)
    assert spec.sizes == {"hidden": 7}


def test_a_rule_may_be_taught_and_forgotten():
    register_rule("aten.sinh", lambda call: call["self"].axes)
    try:
        assert sorted(discover(built(torch.sinh), X, strict=True).sizes.values()) == [6, 7]
    finally:
        del RULES["aten.sinh"]
