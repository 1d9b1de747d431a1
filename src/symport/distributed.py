"""Share work among processes that torch.distributed has joined; alone, everything is a no-op.

Start several with `torchrun --nproc-per-node 2 script.py` and `distributed.join()`. Every process
runs the same program. Gradients are averaged over the shares of each batch; of the matching, each
process computes the similarities of its own tensors, and only those matrices are summed over all.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist


def join(backend: str = "gloo") -> None:
    """Join the processes that torchrun has started; does nothing outside of it.

    Each gets a GPU of its own, where there are any: the device `"cuda"` is that one.
    """
    if "RANK" in os.environ and not dist.is_initialized():
        if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        dist.init_process_group(backend)


def leave() -> None:
    """Part from the other processes; does nothing if this one is alone."""
    if _joined():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, 0 if it is alone."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """How many processes there are, 1 if this one is alone."""
    return dist.get_world_size() if _joined() else 1


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place.

    Args:
        tensors: The same number, shapes and dtypes in every process, in the same order.
    """
    if world() > 1:
        for tensor in tensors:
            _add_up_one(tensor)


def total(value: float) -> float:
    """The sum of a number over all processes."""
    if world() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    add_up([shared])
    return float(shared)


def agreed(value: bool) -> bool:
    """What the first process says; all processes must call it, and wait for the first one.

    Of a file that another program may write at any moment, so that all take the same way.
    """
    return total(float(value and rank() == 0)) > 0


def whole(tensor: Tensor) -> Tensor:
    """A tensor that FSDP2 has sharded, gathered; any other as it is. All processes must call it."""
    gather = getattr(tensor, "full_tensor", None)  # only a DTensor has it; its import takes seconds
    return tensor if gather is None else gather()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _add_up_one(tensor: Tensor) -> None:
    """Through the backend's own device: NCCL knows no CPU tensors."""
    if dist.get_backend() != "nccl" or tensor.is_cuda:
        dist.all_reduce(tensor)
        return
    there = tensor.to(torch.device("cuda", torch.cuda.current_device()))
    dist.all_reduce(there)
    tensor.copy_(there)
