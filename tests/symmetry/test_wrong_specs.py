"""No wrong spec passes: right ones are split, merged and cut, whatever the size of their groups.

Whether a change really makes a spec wrong is decided by `witness.py`, since by chance it may leave
a smaller symmetry, or another one.
"""

import itertools
import re
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.errors import SpecError
from symport.spec import PermutationSpec, show_pattern
from symport.symmetry import discover, verify
from tests.symmetry.witness import is_symmetry

ROWS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
SERIES = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
LINES = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(7, (3, 6), generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers by name and a function of them and the input."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def mlp(n):
    return nn.Sequential(nn.Linear(3, n), nn.Tanh(), nn.Linear(n, n), nn.GELU(), nn.Linear(n, 2))


def convolutions(n):
    return nn.Sequential(nn.Conv1d(3, n, 3), nn.BatchNorm1d(n), nn.ReLU(), nn.Conv1d(n, n, 2),
                         nn.ReLU(), nn.Flatten(), nn.Linear(4 * n, 2))  # fmt: skip


def residual(n):
    return Net(
        lambda s, x: s.out(F.layer_norm((h := s.first(x)) + s.down(torch.tanh(s.up(h))), (n,))),
        first=nn.Linear(3, n), up=nn.Linear(n, n), down=nn.Linear(n, n), out=nn.Linear(n, 2),
    )  # fmt: skip


def attention(heads, share=1, units=3):
    def forward(s, x):
        q = s.q(x).unflatten(-1, (heads, share, units)).flatten(-3, -2)
        k, v = (f(x).unflatten(-1, (heads, units)) for f in (s.k, s.v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        k, v = (t.repeat_interleave(share, 1) for t in (k, v))
        return s.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    return Net(forward, q=nn.Linear(3, heads * share * units), k=nn.Linear(3, heads * units),
               v=nn.Linear(3, heads * units), out=nn.Linear(heads * share * units, 2))  # fmt: skip


def recurrent(kind, n):
    return Net(lambda s, x: s.out(s.rnn(x)[0]), rnn=kind(3, n, batch_first=True),
               out=nn.Linear(n, 2))  # fmt: skip


def group_norm(n):
    return nn.Sequential(nn.Conv1d(3, 2 * n, 1), nn.GroupNorm(2, 2 * n), nn.ReLU(),
                         nn.Conv1d(2 * n, 2, 2))  # fmt: skip


def grouped(n):
    return nn.Sequential(nn.Conv1d(3, 2 * n, 2), nn.Tanh(), nn.Conv1d(2 * n, 4, 2, groups=2),
                         nn.ReLU(), nn.Conv1d(4, 2, 1))  # fmt: skip


def depthwise(n):
    return nn.Sequential(nn.Conv1d(3, n, 1), nn.ReLU(), nn.Conv1d(n, n, 3, groups=n),
                         nn.BatchNorm1d(n), nn.Hardswish(), nn.Conv1d(n, 2, 1))  # fmt: skip


def shared(n):
    return Net(lambda s, x: s.out(torch.tanh(s.again(torch.tanh(s.again(s.first(x)))))),
               first=nn.Linear(3, n), again=nn.Linear(n, n), out=nn.Linear(n, 2))  # fmt: skip


def tied(n):
    return Net(lambda s, x: F.linear((h := s.table(x)) + s.down(torch.tanh(s.up(h))),
                                     s.table.weight),
               table=nn.Embedding(7, n), up=nn.Linear(n, n), down=nn.Linear(n, n))  # fmt: skip


def experts(n):
    def forward(s, x):
        hidden = torch.tanh(torch.einsum("bi,eih->beh", x, s.up))
        return torch.einsum("be,beh,eho->bo", s.router(x).softmax(-1), hidden, s.down)

    return Net(forward, router=nn.Linear(3, n), up=nn.Parameter(torch.randn(n, 3, 2)),
               down=nn.Parameter(torch.randn(n, 2, 2)))  # fmt: skip


def joined(n):
    return Net(lambda s, x: s.out(torch.cat([torch.tanh(s.a(x)), F.silu(s.b(x))], -1)),
               a=nn.Linear(3, n), b=nn.Linear(3, n), out=nn.Linear(2 * n, 2))  # fmt: skip


NETWORKS = {
    "MLP": (mlp, ROWS),
    "convolutions and BatchNorm": (convolutions, LINES),
    "residual": (residual, ROWS),
    "attention": (attention, SERIES),
    "grouped queries": (lambda n: attention(n, share=2, units=2), SERIES),
    "two heads": (lambda n: attention(2, units=n), SERIES),
    "GRU": (lambda n: recurrent(nn.GRU, n), SERIES),
    "LSTM": (lambda n: recurrent(nn.LSTM, n), SERIES),
    "GroupNorm": (group_norm, LINES),
    "grouped convolutions": (grouped, LINES),
    "depthwise": (depthwise, LINES),
    "shared layer": (shared, ROWS),
    "tied embeddings": (tied, TOKENS),
    "experts": (experts, ROWS),
    "concatenation": (joined, ROWS),
}


def made(name, n, seed=0):
    build, inputs = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(n)
    return net, inputs, discover(net, inputs, strict=True)


def renamed(word, name, new):
    """A word of a pattern with a group, and what is nested in it, under another name."""
    return re.sub(rf"(?<![\w/.]){re.escape(name)}(?![\w.])", new, word)


def rebuilt(spec, words):
    """The spec with other patterns, and with the sizes of groups by what they were named after."""
    texts = {tensor: " ".join(axes) for tensor, axes in words.items()}
    used = {g for text in texts.values() for g in re.findall(r"[A-Za-z_][\w./]*", text) if g != "."}
    used |= {"/".join(g.split("/")[: k + 1]) for g in used for k in range(g.count("/"))}
    sizes = {g: spec.sizes.get(re.sub(r"~|_two", "", g)) for g in used}
    sizes = {g: n for g, n in sizes.items() if n}
    found = PermutationSpec.parse(texts, sizes=sizes, buffers=spec.buffers)
    kinds = {g: spec.groups[re.sub("_two", "", g)].kind for g in found.groups if "_two" not in g
             and g in spec.groups}  # fmt: skip
    groups = {g: type(group)(group.size, kinds.get(g, group.kind))
              for g, group in found.groups.items()}  # fmt: skip
    return PermutationSpec(found.patterns, groups, spec.buffers)


def words_of(spec):
    return {tensor: [show_pattern((axis,)) for axis in pattern]
            for tensor, pattern in spec.patterns.items()}  # fmt: skip


def places_of(spec, name):
    """The axes on which a group stands."""
    words = words_of(spec)
    return [(t, k) for t, axes in words.items() for k, w in enumerate(axes)
            if renamed(w, name, "") != w]  # fmt: skip


def with_words(spec, changes):
    words = words_of(spec)
    for (tensor, dim), word in changes.items():
        words[tensor][dim] = word
    with suppress(SpecError):  # what is nested in a group would stand without it
        yield rebuilt(spec, words)


def splits(spec):
    """Some of the places of one group under another name: each one alone, and each half."""
    for name in spec.groups:
        places = places_of(spec, name)
        halves = [places[::2], places[: len(places) // 2]]
        by_tensor = [[p for p in places if p[0] == t] for t in dict.fromkeys(t for t, _ in places)]
        parts = [list(p) for p in dict.fromkeys(map(tuple, [*by_tensor, *halves,
                                                            *([p] for p in places)]))]  # fmt: skip
        for part in parts:
            if 0 < len(part) < len(places):
                words = words_of(spec)
                changes = {(t, k): renamed(words[t][k], name, f"{name}_two") for t, k in part}
                yield from ((f"split {name} {part}", s) for s in with_words(spec, changes))


def merges(spec):
    """Two groups of one shape as one, and what is nested together with what it is nested in."""
    words = words_of(spec)
    for a, b in itertools.combinations(spec.groups, 2):
        if spec.shape_of(a) == spec.shape_of(b):
            changes = {(t, k): renamed(words[t][k], b, a) for t, k in places_of(spec, b)}
            yield from ((f"merge {a} {b}", s) for s in with_words(spec, changes))
        if b.startswith(f"{a}/"):
            new = {t: [w.replace(f"{a} {b}", "whole") for w in axes] for t, axes in words.items()}
            with suppress(SpecError):
                sizes = {**spec.sizes, "whole": spec.sizes[a] * spec.sizes[b]}
                used = " ".join(w for axes in new.values() for w in axes)
                sizes = {g: n for g, n in sizes.items() if re.search(rf"(?<![\w/.]){g}\b", used)}
                texts = {t: " ".join(axes) for t, axes in new.items()}
                yield f"whole {a} {b}", PermutationSpec.parse(texts, sizes=sizes,
                                                             buffers=spec.buffers)  # fmt: skip


def drops(spec):
    """One axis of one tensor on which a group no longer moves."""
    words = words_of(spec)
    for name, group in spec.groups.items():
        nested = [g for g in spec.groups if g.startswith(f"{name}/")]
        for tensor, dim in places_of(spec, name):
            word = words[tensor][dim]
            for inner in nested:
                word = re.sub(rf"(?<![\w/.]){re.escape(inner)}(?![\w./])",
                              str(spec.sizes[inner]), word)  # fmt: skip
            word = re.sub(rf"(?<![\w/.]){re.escape(name)}(?![\w./])", str(group.size), word)
            word = "." if re.fullmatch(r"\d+", word) else word
            changes = {(tensor, dim): word}
            yield from ((f"drop {name} {tensor}[{dim}]", s) for s in with_words(spec, changes))


def wrong(net, inputs, spec):
    """All changes that make the spec wrong; those that do not must pass their proof."""
    assert is_symmetry(net, spec, inputs)
    found = {}
    for what, changed in itertools.chain(splits(spec), merges(spec), drops(spec)):
        if is_symmetry(net, changed, inputs):
            assert not verify(changed, net, inputs).failed, what
        else:
            found[what] = changed
    assert found
    return found


def missed(net, inputs, specs, seeds):
    """The wrong specs that a proof lets pass, one line for each draw."""
    return [
        (what, seed)
        for what, spec in specs.items()
        for seed in seeds
        if not verify(spec, net, inputs, generator=torch.Generator().manual_seed(seed)).failed
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_spec_that_is_split_merged_or_cut_is_caught(name):
    net, inputs, spec = made(name, 2)
    specs = wrong(net, inputs, spec)
    few = dict(itertools.islice(specs.items(), 0, None, max(1, len(specs) // 4)))
    assert missed(net, inputs, few, range(1, 2)) == []


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_wrong_spec_is_caught_in_199_of_200_draws(name, n):
    net, inputs, spec = made(name, n)
    specs = wrong(net, inputs, spec)
    draws = range(-(-400 // len(specs)))
    assert len(missed(net, inputs, specs, draws)) <= len(specs) * len(draws) / 200


def test_a_wrong_spec_of_pairs_is_caught_in_every_draw():
    net = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3))
    texts = {"0.weight": "a .", "0.bias": "b", "2.weight": ". c", "2.bias": "."}
    three = PermutationSpec.parse(texts, net.state_dict())
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert missed(net, x, {"three for one": three}, range(50)) == []
