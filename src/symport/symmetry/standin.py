"""A copy of a model that can be run and traced without a trace left on the model."""

import copy
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from symport.errors import DiscoveryError


@contextmanager
def evaluation(model: nn.Module) -> Generator[nn.Module]:
    """A stand-in in evaluation mode, with the model's own tensors.

    What it stores on itself while it runs, such as tables of cosines, does not reach the model.

    Raises:
        DiscoveryError: The model cannot be copied.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation for a whole layer
    try:
        yield _copied(model).eval()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model, {id(tensor): tensor for tensor in _tensors(model)})
    except Exception as error:  # an attribute may be anything
        raise DiscoveryError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}. Its axes "
            "are found on a copy; take off what cannot be copied (open files, locks, generators)"
        ) from error


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """All tensors of a model; some hooks keep the weight that they compute as an attribute."""
    yield from (*model.parameters(), *model.buffers())
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


@contextmanager
def masks_as_given() -> Generator[None]:
    """Keep torch's own transformers from looking into a mask to see whether it is causal.

    What they find only chooses a faster way to the same result, but is a branch on data.
    """
    module = cast("Any", nn.modules.transformer)
    looks = module._detect_is_causal_mask
    module._detect_is_causal_mask = _as_said
    try:
        yield
    finally:
        module._detect_is_causal_mask = looks


def _as_said(_mask: Tensor | None, is_causal: bool | None = None, _size: int | None = None) -> bool:
    return bool(is_causal)
