"""Compact language models and mixers, wired as the originals are."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class RMSNorm(nn.Module):
    """As most language models write it: in float32 whatever comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        y = x.to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


@final
class LlamaLayer(nn.Module):
    """Attention with shared key heads, then a gated perceptron."""

    def __init__(
        self, width: int, heads: int, kv: int, units: int, hidden: int, qk_norm: bool
    ) -> None:
        super().__init__()
        self.heads, self.kv, self.units = heads, kv, units
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.q = nn.Linear(width, heads * units, bias=False)
        self.k = nn.Linear(width, kv * units, bias=False)
        self.v = nn.Linear(width, kv * units, bias=False)
        self.o = nn.Linear(heads * units, width, bias=False)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)
        self.q_norm = RMSNorm(units) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(units) if qk_norm else nn.Identity()

    def split(self, rows: Tensor, heads: int) -> Tensor:
        """Rows of all heads as (batch, heads, tokens, units)."""
        return rows.unflatten(-1, (heads, self.units)).transpose(1, 2)

    def forward(self, x: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
        """Run it."""
        y = self.norm1(x)
        q, k = self.split(self.q(y), self.heads), self.split(self.k(y), self.kv)
        q, k, v = turn(self.q_norm(q)), turn(self.k_norm(k)), self.split(self.v(y), self.kv)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


@final
class Llama(nn.Module):
    """Rotary positions unless `rope` is False; tied embeddings if wanted."""

    freq: Tensor

    def __init__(
        self,
        layers: int = 2,
        width: int = 12,
        heads: int = 4,
        kv: int = 2,
        units: int = 4,
        hidden: int = 10,
        *,
        rope: bool = True,
        qk_norm: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, width)
        self.layers = nn.ModuleList(
            LlamaLayer(width, heads, kv, units, hidden, qk_norm) for _ in range(layers)
        )
        self.norm, self.head = RMSNorm(width), nn.Linear(width, 16, bias=False)
        self.rope = rope
        self.register_buffer("freq", 10.0 ** -torch.linspace(0, 1, units // 2), persistent=False)
        if tied:
            self.head.weight = self.embed.weight

    def turn(self, x: Tensor) -> Tensor:
        """Rotary positions."""
        if not self.rope:
            return x
        angle = torch.arange(x.shape[-2], device=x.device)[:, None] * self.freq
        angle = torch.cat([angle, angle], -1)
        a, b = x.chunk(2, -1)
        return x * angle.cos() + torch.cat([-b, a], -1) * angle.sin()

    def forward(self, tokens: Tensor) -> Tensor:
        """Run it."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, self.turn)
        return self.head(self.norm(x))


@final
class Reader(nn.Module):
    """A recurrent network whose last state is classified."""

    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(4, 6, batch_first=True, **options)
        width = options.get("proj_size", 6) * (2 if options.get("bidirectional") else 1)
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.last(self.rnn(x)[0][:, -1])


@final
class TiedLoop(nn.Module):
    """A perceptron that applies one layer three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.first(x)
        for _ in range(3):
            x = torch.tanh(self.again(x))
        return self.last(x)


@final
class Adapter(nn.Module):
    """A linear layer plus an update of low rank, as LoRA trains it."""

    def __init__(self, inputs: int, outputs: int, rank: int = 3) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.a, self.b = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.base(x) + 2.0 * self.b(self.a(x))


@final
class MixerLayer(nn.Module):
    """Mixes tokens, then units."""

    def __init__(self, tokens: int, width: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.token1, self.token2 = nn.Linear(tokens, hidden[0]), nn.Linear(hidden[0], tokens)
        self.unit1, self.unit2 = nn.Linear(width, hidden[1]), nn.Linear(hidden[1], width)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        y = self.norm1(x).transpose(1, 2)
        x = x + self.token2(F.gelu(self.token1(y))).transpose(1, 2)
        return x + self.unit2(F.gelu(self.unit1(self.norm2(x))))


@final
class Mixer(nn.Module):
    """MLP-Mixer on images of 3 by 16 by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.layers = nn.Sequential(*(MixerLayer(16, 8, (6, 10)) for _ in range(2)))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.last(self.norm(self.layers(x)).mean(1))
