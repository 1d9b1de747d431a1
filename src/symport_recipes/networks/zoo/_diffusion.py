"""The UNet of a diffusion model: time embedding, GroupNorm, attention over positions."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class TimedBlock(nn.Module):
    """A residual block to which the embedded time is added."""

    def __init__(self, inputs: int, outputs: int, times: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.time = nn.Linear(times, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Run it."""
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


@final
class Attention(nn.Module):
    """Self-attention over positions, on two heads of fused rows."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        count, width, *places = x.shape
        rows = self.qkv(self.norm(x)).reshape(count, 3, 2, width // 2, -1).transpose(-1, -2)
        y = F.scaled_dot_product_attention(*rows.unbind(1))
        return x + self.out(y.transpose(-1, -2).reshape(count, width, *places))


@final
class DiffusionUNet(nn.Module):
    """Down, through the middle, and up with concatenated shortcuts."""

    def __init__(self, width: int = 8, groups: int = 4) -> None:
        super().__init__()
        times = 10
        self.embed = nn.Sequential(nn.Linear(4, times), nn.SiLU(), nn.Linear(times, times))
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.down = TimedBlock(width, width, times, groups)
        self.shrink = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.middle1 = TimedBlock(2 * width, 2 * width, times, groups)
        self.attention = Attention(2 * width, groups)
        self.middle2 = TimedBlock(2 * width, 2 * width, times, groups)
        self.grow = nn.Conv2d(2 * width, width, 3, 1, 1)
        self.up = TimedBlock(2 * width, width, times, groups)
        self.norm, self.last = nn.GroupNorm(groups, width), nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Run it; `time` has shape `(batch,)`."""
        angles = time[:, None] * torch.tensor([1.0, 0.1], device=time.device)
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        top = self.down(self.first(x), embedded)
        y = self.attention(self.middle1(self.shrink(top), embedded))
        y = self.grow(F.interpolate(self.middle2(y, embedded), scale_factor=2.0))
        y = self.up(torch.cat([top, y], 1), embedded)
        return self.last(F.silu(self.norm(y)))
