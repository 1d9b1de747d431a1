"""Attention in all its layouts, position encodings, mixers, and shared key heads."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.spec import show_pattern
from symport.symmetry import discover
from symport_recipes.networks import Llama

X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[1, 5, 2, 9, 3], [4, 4, 7, 0, 15]])


def find(net, *inputs):
    spec = discover(net, inputs, strict=True)
    return spec, {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}


class Attention(nn.Module):
    """Self-attention on 2 heads of 3 units, with the rows of q, k, v laid out in some way."""

    def __init__(self, layout, fused=False, bias=None):
        super().__init__()
        self.layout, self.fused = layout, fused
        self.qkv, self.out = nn.Linear(12, 18), nn.Linear(6, 12)
        if bias is not None:
            self.bias = bias

    def rows(self, x):
        y = self.qkv(x)
        match self.layout:
            case "stacked":
                return y.view(2, 5, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
            case "chunked":
                return (r.view(2, 5, 2, 3).transpose(1, 2) for r in y.chunk(3, -1))
            case "headwise":
                return y.view(2, 5, 2, 9).transpose(1, 2).chunk(3, -1)
            case "interleaved":
                y = y.view(2, 5, 2, 3, 3).transpose(1, 2)
                return y[..., 0, :], y[..., 1, :], y[..., 2, :]
        raise ValueError(self.layout)

    def forward(self, x):
        q, k, v = self.rows(x)
        bias = self.bias if hasattr(self, "bias") else None
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            scores = q @ k.transpose(-2, -1) / 3**0.5
            y = (scores if bias is None else scores + bias).softmax(-1) @ v
        return x + self.out(y.transpose(1, 2).reshape(2, 5, 6))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("stacked", "(h h/qk + h h/qk + h h/v)"),
        ("chunked", "(h h/qk + h h/qk + h h/v)"),
        ("headwise", "(h (h/qk + h/qk + h/v))"),
        ("interleaved", "(h (h/qk + h/qk + h/v))"),
    ],
)
def test_fused_rows_of_any_layout_have_heads_and_two_sets_of_units(layout, pattern, fused):
    spec, text = find(Attention(layout, fused), X)
    heads = next(name for name, group in spec.groups.items() if group.size == 2)
    value = text["out.weight"].split()[-1].rstrip(")")
    other = next(name for name in spec.groups if "/" in name and name != value)
    expected = pattern.replace("h/qk", "K").replace("h/v", "V").replace("h", heads)
    assert text["qkv.bias"] == expected.replace("K", other).replace("V", value)
    assert text["qkv.weight"] == f"{text['qkv.bias']} ."
    assert text["out.weight"] == f". ({heads} {value})"
    assert spec.shape_of(value) == spec.shape_of(other) == (2, 3)


def test_torchs_own_encoder_layer_is_covered():
    layer = nn.TransformerEncoderLayer(12, 4, 10, batch_first=True)
    net = nn.Sequential(nn.Linear(12, 12), layer, nn.Linear(12, 2))
    spec, text = find(net, X)
    assert sorted(spec.sizes.values()) == [3, 3, 4, 10, 12]
    assert text["1.norm1.weight"] == text["1.linear2.bias"] == "h0"
    assert len(spec.trees()) == 3


def test_a_bias_for_each_head_moves_with_the_heads():
    net = Attention("chunked", bias=nn.Parameter(torch.randn(2, 5, 5)))
    spec, text = find(net, X)
    heads = next(name for name, group in spec.groups.items() if group.size == 2)
    assert text["bias"] == f"{heads} . ."


def test_heads_that_differ_by_a_constant_stay_while_units_inside_move():
    class Sloped(Attention):
        slopes: torch.Tensor

        def __init__(self):
            super().__init__("chunked", fused=True)
            self.register_buffer("slopes", torch.tensor([0.5, 0.25]))

        @property
        def bias(self):
            distance = torch.arange(5)[None, :] - torch.arange(5)[:, None]
            return self.slopes[:, None, None] * distance

    spec, text = find(Sloped(), X)
    fixed = [name for name, group in spec.groups.items() if group.kind == "fixed"]
    assert len(fixed) == 1
    assert spec.groups[fixed[0]].size == 2
    assert len([name for name in spec.groups if name.startswith(f"{fixed[0]}/")]) == 2
    assert text["slopes"] == "."
    assert "buffer slopes" in spec.reasons["out.weight"][1]


def test_llama_with_shared_key_heads_and_rotary_positions():
    spec, text = find(Llama(), TOKENS)
    stream = text["norm.weight"]
    kv = "layers.0.k"
    assert text["layers.0.q.weight"] == f"({kv} {kv}/q 4) {stream}"
    assert text["layers.0.k.weight"] == f"({kv} 4) {stream}"
    assert text["layers.0.v.weight"] == f"({kv} {kv}/v) {stream}"
    assert text["layers.0.o.weight"] == f"{stream} ({kv} {kv}/q {kv}/v)"
    assert text["layers.1.down.weight"] == f"{stream} layers.1.gate"
    assert text["embed.weight"] == text["head.weight"] == f". {stream}"
    assert len(spec.groups) == 1 + 2 * 4
    assert "buffer freq" in spec.reasons["layers.0.q.weight"][0]


def test_without_rotary_positions_query_and_key_units_move_too():
    spec, text = find(Llama(1, rope=False), TOKENS)
    kv = "layers.0.k"
    assert text["layers.0.k.weight"].startswith(f"({kv} {kv}/inner)")
    assert text["layers.0.q.weight"].startswith(f"({kv} {kv}/q {kv}/inner)")
    assert spec.shape_of(f"{kv}/inner") == (2, 4)


def test_a_norm_that_heads_share_ties_their_units():
    spec, text = find(Llama(1, rope=False, qk_norm=True), TOKENS)
    units = text["layers.0.q_norm.weight"]
    assert units == text["layers.0.k_norm.weight"]
    assert spec.shape_of(units) == (4,)
    assert text["layers.0.k.weight"].startswith(f"(layers.0.k {units})")


def test_tied_embeddings_keep_the_vocabulary():
    spec, text = find(Llama(1, tied=True), TOKENS)
    assert text["head.weight"] == text["embed.weight"] == f". {text['norm.weight']}"
    assert "vocabulary" in spec.reasons["head.weight"][0]


def test_one_query_head_for_each_key_head_and_multi_query():
    one, _ = find(Llama(1, heads=4, kv=4), TOKENS)
    assert sorted(one.sizes.values()) == [4, 4, 10, 12]  # heads, value units, hidden, stream
    multi, text = find(Llama(1, heads=4, kv=1), TOKENS)
    assert text["layers.0.v.weight"].startswith("layers.0.v ")
    assert text["layers.0.q.weight"].startswith("(layers.0.q 4) ")
    assert sorted(multi.sizes.values()) == [4, 4, 10, 12]


class Vision(nn.Module):
    """Patches, a class token, learned positions, LayerScale."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 12))
        self.registers = nn.Parameter(torch.randn(1, 3, 12))
        self.positions = nn.Parameter(torch.zeros(1, 8, 12))  # longer than needed
        self.norm, self.scale = nn.LayerNorm(12), nn.Parameter(torch.ones(12))
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.positions[:, :5]
        x = torch.cat([x, self.registers.expand(x.shape[0], -1, -1)], 1)
        y = self.norm(x)
        x = x + self.scale * self.attention(y, y, y, need_weights=False)[0]
        return self.head(x[:, 0])


def test_a_vision_transformer_moves_its_stream_and_keeps_its_positions():
    spec, text = find(Vision(), torch.randn(2, 3, 8, 8))
    stream = text["norm.weight"]
    assert text["positions"] == f". . {stream}"
    assert text["cls"] == f". . {stream}"
    assert text["scale"] == stream
    assert text["patch.weight"] == f"{stream} . . ."
    assert "not used with these example inputs" in spec.reasons["positions"][1]


def test_tokens_that_are_learned_but_have_no_position_may_change_places():
    spec, text = find(Vision(), torch.randn(2, 3, 8, 8))
    tokens = text["registers"].split()[1]
    assert spec.sizes[tokens] == 3


def test_a_mixer_moves_hidden_units_of_both_kinds_but_not_tokens():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Linear(12, 8), nn.LayerNorm(8)
            self.token1, self.token2 = nn.Linear(5, 6), nn.Linear(6, 5)
            self.unit1, self.unit2 = nn.Linear(8, 10), nn.Linear(10, 8)
            self.last = nn.Linear(8, 2)

        def forward(self, x):
            x = self.first(x)
            y = self.norm(x).transpose(1, 2)
            x = x + self.token2(F.gelu(self.token1(y))).transpose(1, 2)
            return self.last((x + self.unit2(F.gelu(self.unit1(x)))).mean(1))

    spec, text = find(Mixer(), X)
    assert spec.sizes == {"first": 8, "token1": 6, "unit1": 10}
    assert text["token2.weight"] == ". token1"


def test_attention_over_channels_keeps_its_two_sides_apart():
    class Channels(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(12, 4) for _ in range(3))
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            scores = self.q(x).transpose(1, 2) @ self.k(x)
            return self.last(self.v(x) @ scores.softmax(-1).transpose(1, 2))

    spec, text = find(Channels(), X)
    assert text["k.weight"].split()[0] == text["v.weight"].split()[0]
    assert text["last.weight"].split()[1] == text["q.weight"].split()[0]
    assert sorted(spec.sizes.values()) == [4, 4]
