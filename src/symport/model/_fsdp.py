"""Gradients of a model that FSDP2 (`fully_shard`) has sharded across processes.

Such a model cannot be called with other tensors, so its shards are overwritten for the call and
restored afterwards. Its gradients remain sharded: matching gathers them one at a time.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from symport.params import Params


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's parameters are DTensors."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a DTensor; any other tensor as it is."""
    shard = getattr(tensor, "to_local", None)
    return tensor if shard is None else cast("Tensor", shard())


@contextmanager
def loaded(model: nn.Module, state: Params) -> Generator[None]:
    """Run the body while the model has other weights and buffers, and restore its own afterwards.

    Args:
        model: A model of which some or all parameters are sharded.
        state: Unsharded tensors, the same in every process, for any of its parameters and buffers.
    """
    own: dict[str, Tensor] = {
        name: tensor
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if name in state
    }
    kept = {name: local(tensor.detach()).clone() for name, tensor in own.items()}
    try:
        for name, tensor in own.items():
            local(tensor.detach()).copy_(_shard_like(tensor, state[name]))
        yield
    finally:
        for name, tensor in own.items():
            local(tensor.detach()).copy_(kept[name])


def backward(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    """The gradients of a scalar, sharded as the parameters and averaged over the processes."""
    value.backward()
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            grad = parameter.grad
            # The gradient of a parameter that the loss does not depend on is zero.
            found[name] = torch.zeros_like(parameter) if grad is None else grad
            parameter.grad = None
    return found


def call_sharded(model: nn.Module, inputs: Any) -> Any:
    """What the model returns for a tensor, a tuple of positional or a mapping of arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _shard_like(tensor: Tensor, whole: Tensor) -> Tensor:
    """This process's piece of a whole tensor, without communication."""
    if not hasattr(tensor, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    like = cast("DTensor", tensor)
    there = whole.to(like.device, like.dtype)
    return local(distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None))
