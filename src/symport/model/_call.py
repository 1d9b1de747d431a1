"""Call a model with given parameters, leaving the model itself as it was found."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from symport.errors import DataError
from symport.params import Params, is_inexact

T = TypeVar("T")


@contextmanager
def evaluation(model: nn.Module) -> Generator[None]:
    """Evaluation mode inside, every module's own mode afterwards."""
    with _modes(model):
        model.eval()
        yield


@contextmanager
def batch_statistics(model: nn.Module) -> Generator[None]:
    """BatchNorm uses the statistics of the batch, all else is in evaluation mode.

    So a gradient sees the network as in training (method of the paper), yet without dropout's
    randomness. Every module's own mode comes back afterwards.
    """
    with _modes(model):
        model.eval()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        yield


@contextmanager
def _modes(model: nn.Module) -> Generator[None]:
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def call(model: nn.Module, params: Params, inputs: Any) -> Any:
    """What the model returns for `inputs` with these parameters and buffers.

    Args:
        model: Gives the computation; what `params` lacks is taken from it.
        params: Tensors by name. Buffers that the call updates in place are updated in `params`'
            own tensors: pass copies if that matters.
        inputs: A tensor, a tuple of positional or a mapping of keyword arguments.

    Raises:
        DataError: The model fails on these inputs: they have another shape or dtype than it takes.
    """
    return within(model, params, lambda: apply(model, params, inputs))


def within(model: nn.Module, params: Params, run: Callable[[], T]) -> T:
    """Run a function while the model has these parameters and buffers.

    What a backward pass computes again from the model's tensors has to happen inside.
    """
    state = {f"model.{name}": tensor for name, tensor in params.items()}
    return functional_call(_Within(model), state, (run,))


def apply(model: nn.Module, params: Params, inputs: Any) -> Any:
    """As `call`, for a model that has the parameters already; they only tell the message dtypes."""
    args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    args, keywords = ((), dict(inputs)) if isinstance(inputs, Mapping) else (args, {})
    try:
        return model(*args, **keywords)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        dtypes = ", ".join(sorted({str(t.dtype) for t in params.values() if is_inexact(t)}))
        raise DataError(
            f"the model fails on inputs {describe_shapes(inputs)} with weights of {dtypes}: "
            f"{first_line(error)}"
        ) from error


class _Within(nn.Module):
    """Its call is whatever is to happen while the model's tensors are others."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[], T]) -> T:
        return run()


def describe_shapes(value: Any) -> str:
    """The shapes and dtypes of all tensors in a batch, for messages.

    Example:
        >>> describe_shapes({"x": torch.zeros(2, 3), "scale": 1.0})
        '{x: (2, 3) torch.float32, scale: float}'
    """
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{key}: {describe_shapes(item)}" for key, item in value.items()) + "}"
        )
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(describe_shapes, value)) + "]"
    return type(value).__name__


def first_line(error: Exception) -> str:
    """What an error says, cut after its first line; its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def to_device(value: Any, like: Tensor) -> Any:
    """Move every tensor of a batch to the device of `like`."""
    if isinstance(value, Tensor):
        return value.to(like.device)
    if isinstance(value, Mapping):
        return {key: to_device(item, like) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(to_device(item, like) for item in value)
    return value
