"""A copy of a model that can be run and traced without a trace left on the model."""

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
    own = list(_tensors(model))
    kept: dict[Any, Any] = {id(tensor): tensor for tensor in own}
    kept["torch"] = dict(map(_memory, own))  # views of them, say in a list, remain views
    try:
        return copy.deepcopy(model, kept)
    except Exception as error:  # an attribute may be anything
        raise DiscoveryError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}. Its axes "
            "are found on a copy; take off what cannot be copied (open files, locks, generators)"
        ) from error


def _memory(tensor: Tensor) -> tuple[int, Any]:
    """The memory of a tensor as copies look it up; nothing if it has none of its own."""
    try:
        storage = cast("Any", tensor.untyped_storage())
    except (RuntimeError, NotImplementedError, ValueError):
        return 0, None
    return storage._cdata, storage


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


@contextmanager
def quiet() -> Generator[None]:
    """Hide what torch says about itself while it exports; its errors are raised by us."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    assigned = r"The tensor attributes? .*assigned during export"
    # On a failure torch prints whole graphs.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch(\.|$)")
        warnings.filterwarnings("ignore", category=FutureWarning, message=r".*treespec.*")
        warnings.filterwarnings("ignore", message=assigned)
        try:
            yield
        finally:
            logging.disable(level)


class ListsAsGiven(TorchFunctionMode):
    """Keeps the numbers of an index such as `x[:, [2, 0]]` where tensors have no memory.

    torch would make a tensor of them on the device of `x`, and on the meta device lose them.
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
    """A list of whole numbers as a tensor that has them."""
    numbers = cast("list[Any]", index) if isinstance(index, list) else []
    if numbers and all(type(number) is int for number in numbers):
        return torch.tensor(numbers, device="cpu")
    return index
