"""Random weights and inputs for a proof, of a size that keeps signals visible in a deep network.

A freshly initialised network hides mistakes: gains are one, biases zero, and behind many layers of
tiny weights a wrong group changes the output by less than round-off. So does an example of zeros.
"""

import collections.abc
from collections.abc import Collection
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from symport.params import is_inexact

SMALL = 0.1  # root mean square of a vector; smaller gains in every layer make signals vanish
SPREAD = 0.3  # of random values around a given one, relative to it
JITTER = 2.0**-50  # simulates rounding, relative to each entry: four units in the last place


def in_double(value: Any) -> Any:
    """A copy of a floating-point or complex tensor in double precision; anything else as it is."""
    if not isinstance(value, Tensor) or not is_inexact(value):
        return value
    wide = torch.complex128 if value.is_complex() else torch.float64
    return value.detach().to(wide, copy=True)


@contextmanager
def double_by_default() -> collections.abc.Generator[None]:
    """Set the default dtype to float64, so that constants made on the way are not rounded."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def randomised(
    model: nn.Module, statistics: Collection[str], generator: Generator, strength: float = 1.0
) -> dict[str, Tensor]:
    """Weights and statistics in float64, drawn around their values.

    Args:
        model: Its other buffers keep their values. All names of one tensor get the same values.
        statistics: Buffers that are drawn as well, besides running means and variances.
        generator: Draws the values.
        strength: Of the change, from 0 (none) to 1.
    """
    state = model.state_dict(keep_vars=True)
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    drawn: dict[int, Tensor] = {}
    for name, tensor in state.items():
        running = name.rsplit(".", 1)[-1].startswith("running_")
        moves = isinstance(tensor, nn.Parameter) or running or name in statistics
        if id(tensor) not in drawn:
            drawn[id(tensor)] = _drawn(tensor, generator, strength) if moves else in_double(tensor)
    return {name: drawn[id(tensor)] for name, tensor in state.items()}


def varied(value: Any, generator: Generator) -> Any:
    """An input in float64; if all its entries are equal, others are drawn, to reveal more.

    On images of zeros no kernel has an effect, and attention to equal tokens is a mean whatever the
    queries. Integers other than zero are kept, since ones may be a mask.
    """
    value = in_double(value)
    if not isinstance(value, Tensor) or value.numel() < 2 or value.dtype == torch.bool:
        return value
    if bool((value != value.flatten()[0]).any()):
        return value
    if is_inexact(value):
        noise = _noise(value, generator)
        return torch.where(value == 0, noise, value * (SPREAD * noise).exp())
    bits = torch.randint(2, value.shape, generator=generator).to(value)
    return value if bool(value.any()) else bits


def jittered(value: Any, generator: Generator) -> Any:
    """An inexact tensor with every entry moved by a few units in its last place."""
    if not isinstance(value, Tensor) or not is_inexact(value):
        return value
    signs = torch.randint(2, value.shape, generator=generator).to(value).mul_(2).sub_(1)
    return value * (1 + JITTER * signs)


def shaken(value: Tensor, generator: Generator) -> Tensor:
    """A tensor with every entry changed by more than its size, so that maxima move as well."""
    return value * (1 + 3 * _noise(value, generator))


def _drawn(tensor: Tensor, generator: Generator, strength: float) -> Tensor:
    """A random tensor of similar size; positive ones (variances, gains) remain positive."""
    value = cast("Tensor", in_double(tensor))
    if not is_inexact(value) or not value.numel() or not strength:
        return value
    noise = SPREAD * strength * _noise(value, generator)
    if not value.is_complex() and bool(value.min() > 0):
        return value.mul_(noise.exp_())
    return value.add_(noise, alpha=_scale(value))


def _noise(value: Tensor, generator: Generator) -> Tensor:
    kind = torch.complex64 if value.is_complex() else torch.float32
    return torch.randn(value.shape, generator=generator, dtype=kind).to(value)


def _scale(value: Tensor) -> float:
    """The size of the noise to add, so that signals neither vanish nor explode with depth."""
    scale = float(value.norm()) / value.numel() ** 0.5
    if value.ndim < 2:
        return scale if scale > SMALL else 3.0 if scale else 0.5
    return max(scale, 4.5 * (value.shape[0] / value.numel()) ** 0.5)
