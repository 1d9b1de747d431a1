"""Share work among processes that torch.distributed has joined; alone, everything is a no-op.

Start several with `torchrun --nproc-per-node 2 script.py` and `distributed.join()`. Every process
runs the same program. Gradients are averaged over the shares of each batch; of the matching, each
process computes the similarities of its own tensors, and only those matrices are summed over all.
"""

import atexit
import importlib
import os
import time
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist

GRACE_SECONDS = 0.2  # gloo's threads need some microseconds of it, unless the machine is busy


def join(backend: str = "gloo") -> None:
    """Join the processes that torchrun has started; does nothing outside of it.

    Each gets a GPU of its own, where there are any: the device `"cuda"` is that one. They part
    when the interpreter ends, if not before.
    """
    if "RANK" in os.environ and not dist.is_initialized():
        if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        # Its functions have the group as a default argument: imported later, by an optimizer for
        # instance, they would keep the group and its threads until the interpreter is gone.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group(backend)
        atexit.register(_depart, weakref.ref(dist.group.WORLD))


def leave() -> None:
    """Part from the other processes; does nothing if this one is alone."""
    if _joined():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, 0 if it is alone."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """How many processes there are, 1 if this one is alone."""
    return dist.get_world_size() if _joined() else 1


def all_reduce_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place.

    Args:
        tensors: The same number, shapes and dtypes in every process, in the same order.
    """
    if world_size() > 1:
        for tensor in tensors:
            _all_reduce_one_(tensor)


def total(value: float) -> float:
    """The sum of a number over all processes."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    all_reduce_([shared])
    return float(shared)


def broadcast_flag(value: bool) -> bool:
    """What the first process says; all processes must call it, and wait for the first one.

    Of a file that another program may write at any moment, so that all take the same way.
    """
    return total(float(value and rank() == 0)) > 0


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that FSDP2 has sharded, gathered; any other as it is. All processes must call it."""
    gather = getattr(tensor, "full_tensor", None)  # only a DTensor has it; its import takes seconds
    return tensor if gather is None else gather()


def _depart(group: weakref.ref[object]) -> None:
    """Part while gloo's threads can still take the interpreter's lock.

    A thread that has summed tensors drops its references to them a little later, for which it
    needs the lock; if the interpreter is being finalized by then, the process aborts ("terminate
    called without an active exception"). Destroying the group ends its threads, but for a group
    that something else refers to, such as a device mesh in the caches of DTensor; those threads
    get some time.
    """
    leave()
    if group() is not None:
        time.sleep(GRACE_SECONDS)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _all_reduce_one_(tensor: Tensor) -> None:
    """Through the backend's own device: NCCL knows no CPU tensors."""
    if dist.get_backend() != "nccl" or tensor.is_cuda:
        dist.all_reduce(tensor)
        return
    there = tensor.to(torch.device("cuda", torch.cuda.current_device()))
    dist.all_reduce(there)
    tensor.copy_(there)
