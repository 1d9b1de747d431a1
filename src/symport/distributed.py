"""Share work among the processes of torch.distributed; in a single process nothing changes.

Start several with `torchrun --nproc-per-node 2 script.py` and call `distributed.join()`. All
processes run the same program. Each computes the gradients of its share of a batch, which are then
averaged, and in the matching the similarities of its share of the tensors, which are then summed.
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

GRACE_SECONDS = 0.2  # gloo's threads need microseconds, but more on a busy machine


def join(backend: str = "gloo") -> None:
    """Join the process group that torchrun has started; outside of torchrun this does nothing.

    Each process is assigned one GPU, if there are any, as its device `"cuda"`. The group is left
    when the interpreter exits, or by `leave`.

    Args:
        backend: `"gloo"`, or `"nccl"` on GPUs.

    Example:
        >>> join()  # this example is not run by torchrun
        >>> rank(), world_size()
        (0, 1)
    """
    if "RANK" in os.environ and not dist.is_initialized():
        if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        # The functions of this module take the group as a default argument. Imported later, by an
        # optimizer for instance, they would keep the group and its threads until the very end.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group(backend)
        atexit.register(_depart, weakref.ref(dist.group.WORLD))


def leave() -> None:
    """Leave the process group; does nothing outside of one.

    Example:
        >>> leave()
        >>> world_size()
        1
    """
    if _joined():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0; it is 0 in a single process.

    Example:
        >>> rank()
        0
    """
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """The number of processes, at least 1.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if _joined() else 1


def all_reduce_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place.

    Args:
        tensors: Of any shapes; in every process the same number, shapes and dtypes, in the same
            order.

    Example:
        >>> value = torch.tensor([1.0, 2.0])
        >>> all_reduce_([value])  # the sum over one process
        >>> value
        tensor([1., 2.])
    """
    if world_size() > 1:
        for tensor in tensors:
            _all_reduce_one_(tensor)


def total(value: float) -> float:
    """The sum of a number over all processes.

    Example:
        >>> total(2.5)
        2.5
    """
    if world_size() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    all_reduce_([shared])
    return float(shared)


def broadcast_flag(value: bool) -> bool:
    """The value that the first process passes; all processes must call it and wait for the first.

    It keeps the processes in step where they could observe different things, for instance a file
    that another program may write at any moment.

    Example:
        >>> broadcast_flag(True)
        True
    """
    return total(float(value and rank() == 0)) > 0


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor that FSDP2 has sharded; any other tensor is returned as it is.

    All processes must call it.

    Args:
        tensor: Any shape.

    Example:
        >>> full_tensor(torch.tensor([1.0]))
        tensor([1.])
    """
    gather = getattr(tensor, "full_tensor", None)  # only a DTensor has it; its import takes seconds
    return tensor if gather is None else gather()


def _depart(group: weakref.ref[object]) -> None:
    """Leave the group while gloo's threads can still acquire the interpreter's lock.

    A thread that has summed tensors releases its references to them a little later, for which it
    needs the lock; if the interpreter is being finalized by then, the process aborts ("terminate
    called without an active exception"). Destroying the group ends its threads, unless something
    else refers to the group, such as a device mesh in the caches of DTensor; then we wait.
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
