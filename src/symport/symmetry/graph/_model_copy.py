"""Copies of a model that can be run and traced without changing the model."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from symport.errors import DiscoveryError


@contextmanager
def evaluation(model: nn.Module) -> Generator[nn.Module]:
    """A copy in evaluation mode that shares the model's tensors.

    What it stores on itself while it runs, such as tables of cosines, is not stored on the model.

    Raises:
        DiscoveryError: The model cannot be copied.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it is one opaque operation for a whole layer
    try:
        yield _copied(model).eval()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _copied(model: nn.Module) -> nn.Module:
    own = list(_tensors(model))
    kept: dict[Any, Any] = {id(tensor): tensor for tensor in own}
    kept["torch"] = dict(
        map(_memory, own)
    )  # so that views of them, for instance in a list, remain views
    try:
        return copy.deepcopy(model, kept)
    except Exception as error:  # an attribute may be anything
        raise DiscoveryError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}. Its axes "
            "are found on a copy; remove what cannot be copied (open files, locks, generators)"
        ) from error


def _memory(tensor: Tensor) -> tuple[int, Any]:
    """Key and value of a tensor's storage in a `deepcopy` memo; empty if it has none."""
    try:
        storage = cast("Any", tensor.untyped_storage())
    except (RuntimeError, NotImplementedError, ValueError):
        return 0, None
    return storage._cdata, storage


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """All tensors of a model, also attributes: some hooks store the weight that they compute."""
    yield from (*model.parameters(), *model.buffers())
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


@contextmanager
def masks_as_given() -> Generator[None]:
    """Keep torch's own transformers from reading a mask to detect whether it is causal.

    The result only selects a faster kernel with the same result, but it is a branch on data.
    """
    module = cast("Any", nn.modules.transformer)
    detect = module._detect_is_causal_mask
    module._detect_is_causal_mask = _as_given
    try:
        yield
    finally:
        module._detect_is_causal_mask = detect


def _as_given(
    _mask: Tensor | None, is_causal: bool | None = None, _size: int | None = None
) -> bool:
    return bool(is_causal)


@contextmanager
def quiet() -> Generator[None]:
    """Hide what torch logs and prints while it exports; its errors are raised with our message."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    assigned = r"The tensor attributes? .*assigned during export"
    # If export fails, torch prints whole graphs.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch(\.|$)")
        warnings.filterwarnings("ignore", category=FutureWarning, message=r".*treespec.*")
        warnings.filterwarnings("ignore", message=assigned)
        try:
            yield
        finally:
            logging.disable(level)


class ListsAsGiven(TorchFunctionMode):
    """Keeps the values of an index such as `x[:, [2, 0]]` on the meta device.

    torch would convert the list to a tensor on the device of `x`, which on meta has no values.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__getitem__ and args[0].is_meta:
            index = args[1]
            several = isinstance(index, tuple)
            kept = [_kept(part) for part in cast("tuple[Any, ...]", index if several else (index,))]
            args = (args[0], tuple(kept) if several else kept[0])
        return func(*args, **(kwargs or {}))


def _kept(index: Any) -> Any:
    """A list of integers as a tensor on the CPU; any other index unchanged."""
    numbers = cast("list[Any]", index) if isinstance(index, list) else []
    if numbers and all(type(number) is int for number in numbers):
        return torch.tensor(numbers, device="cpu")
    return index
