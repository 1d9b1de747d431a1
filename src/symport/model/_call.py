"""Call a model at given parameters, which leaves its own tensors and modes unchanged."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # all kinds' base

from symport.errors import DataError, ParamsError, first_line
from symport.params import Params, is_inexact, listed

T = TypeVar("T")


@contextmanager
def evaluation(model: nn.Module) -> Generator[None]:
    """Run the body in evaluation mode, and restore the mode of every module afterwards.

    Example:
        >>> dropout = nn.Dropout()
        >>> with evaluation(dropout):
        ...     dropout(torch.ones(3))
        tensor([1., 1., 1.])
        >>> dropout.training
        True
    """
    with _modes(model):
        model.eval()
        yield


@contextmanager
def batch_statistics(model: nn.Module) -> Generator[None]:
    """Run the body with BatchNorm in training mode, and every other module in evaluation mode.

    Gradients are then computed with the statistics of the batch, as in training and in the paper,
    but without the randomness of dropout. The mode of every module is restored afterwards.
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
    """The outputs of the model at the given parameters and buffers.

    Args:
        model: The network; parameters and buffers that `params` lacks are its own.
        params: Tensors by name. A buffer that the call updates in place is updated in this very
            tensor; pass a copy if that matters.
        inputs: A tensor, a tuple of positional arguments or a mapping of keyword arguments.

    Raises:
        DataError: The model fails on these inputs, for instance because of their shape or dtype.

    Example:
        >>> call(nn.Linear(1, 1, bias=False), {"weight": torch.tensor([[2.0]])}, torch.ones(1, 1))
        tensor([[2.]])
    """
    return within(model, params, lambda: apply(model, params, inputs))


def within(model: nn.Module, params: Params, run: Callable[[], T]) -> T:
    """Run a function while the model has the given parameters and buffers.

    A backward pass that recomputes activations from the model's tensors has to be part of it.
    """
    state = {f"model.{name}": tensor for name, tensor in params.items()}
    return functional_call(_Within(model), state, (run,))


def apply(model: nn.Module, params: Params, inputs: Any) -> Any:
    """Call a model that already has the parameters, which are used for the error message alone."""
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
    """A module with the model as its part, whose call runs the given function."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[], T]) -> T:
        return run()


def describe_shapes(value: Any) -> str:
    """The shapes and dtypes of the tensors in a nested batch, for an error message.

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


def to_device(value: Any, like: Tensor) -> Any:
    """Move every tensor of a nested batch to the device of another tensor.

    Args:
        value: A tensor, or tuples, lists and mappings of tensors and anything else.
        like: A tensor of any shape on that device.

    Example:
        >>> to_device({"x": torch.ones(2), "scale": 0.5}, like=torch.zeros(1))
        {'x': tensor([1., 1.]), 'scale': 0.5}
    """
    if isinstance(value, Tensor):
        return value.to(like.device)
    if isinstance(value, Mapping):
        return {key: to_device(item, like) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(to_device(item, like) for item in value)
    return value


def state_for(model: nn.Module, params: Params) -> dict[str, Tensor]:
    """All tensors that a call of the model reads, checked against the model.

    Args:
        model: The network, which is not modified.
        params: A state dict of the model, on any device and of any dtype. Of the names of a tied
            tensor, one is enough.

    Returns:
        The given parameters and copies of the buffers, which a call may update in place; tied
        tensors under their first name only, as `torch.func.functional_call` requires.

    Raises:
        ParamsError: A tensor is missing, unknown or of another shape, or the tensors of tied names
            differ.

    Example:
        >>> state_for(nn.Linear(1, 1, bias=False), {"weight": torch.tensor([[2.0]])})
        {'weight': tensor([[2.]])}
    """
    own = own_tensors(model)
    if unknown := [name for name in params if name not in own]:
        raise ParamsError(f"the model has no tensor {listed(unknown)}")
    tied: dict[int, list[str]] = {}
    for name, tensor in own.items():
        tied.setdefault(id(tensor), []).append(name)
    given = {names[0]: [name for name in names if name in params] for names in tied.values()}
    if missing := [first for first, names in given.items() if not names]:
        raise ParamsError(f"the parameters lack {listed(missing)}, which the model has")
    temporary = {name: buffer.clone() for name, buffer in model.named_buffers() if name not in own}
    return temporary | {
        first: _one(own[first], {name: params[name] for name in names})
        for first, names in given.items()
    }


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's own parameters and persistent buffers, tied ones under each of their names.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> model[1].weight = model[0].weight
        >>> list(own_tensors(model))
        ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _one(own: Tensor, given: Params) -> Tensor:
    """The one tensor given under one or several names, copied if it is a buffer."""
    first, *others = given
    value = given[first].detach()
    if value.shape != own.shape:
        sizes = f"{tuple(value.shape)}, in the model {tuple(own.shape)}"
        raise ParamsError(f"{first}: its shape is {sizes}")
    for other in others:
        if not torch.equal(value, given[other]):
            raise ParamsError(f"{first} and {other} are one tensor in the model, but differ here")
    return value if isinstance(own, nn.Parameter) else value.clone()
