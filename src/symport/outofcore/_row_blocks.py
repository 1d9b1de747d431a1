"""Rows of a tensor, plain or permuted, read and computed on demand.

A checkpoint larger than memory is processed in runs of rows: positions along the first axis.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from symport.io import Checkpoint
from symport.params import Params
from symport.spec import (
    Pattern,
    Permutation,
    axis_blocks,
    axis_index,
    is_linked,
    permute_tensor,
)

CHUNK = 2**18  # elements at a time: what is computed on stays in a core's cache

Rows: TypeAlias = Callable[[int, int], Tensor]


def outlined(params: Params) -> Params:
    """The tensors, or stand-ins of their shapes and dtypes where they would be read from files.

    Example:
        >>> list(outlined({"w": torch.zeros(2, 3)}))
        ['w']
    """
    return params.outline() if isinstance(params, Checkpoint) else params


def prefetch(params: Params, name: str) -> None:
    """Have a tensor of a checkpoint read from the disk while something else is computed."""
    if isinstance(params, Checkpoint) and name in params:
        params.prefetch(name)


def row_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor; a single number counts as one row.

    Example:
        >>> row_shape(torch.zeros(2, 3)), row_shape(torch.tensor(7.0))
        ((2, 3), (1,))
    """
    return tuple(tensor.shape) or (1,)


def runs(shape: Sequence[int]) -> Iterator[slice]:
    """Rows in runs of about `CHUNK` elements, from the first to the last.

    Args:
        shape: Of at least one axis.

    Example:
        >>> list(runs((700, 512)))
        [slice(0, 512, None), slice(512, 700, None)]
    """
    step = max(1, CHUNK // max(1, math.prod(shape[1:])))
    return (slice(k, min(k + step, shape[0])) for k in range(0, shape[0], step))


def plain_rows(params: Params, name: str) -> Rows:
    """The rows of a tensor as it is."""
    if isinstance(params, Checkpoint):
        return lambda start, stop: _with_rows(params.rows(name, start, stop))
    tensor = _with_rows(params[name].detach())
    return lambda start, stop: tensor[start:stop]


def whole_rows(params: Params, name: str) -> Tensor:
    """All rows of a tensor, in memory of their own."""
    read = plain_rows(params, name)(0, row_shape(outlined(params)[name])[0])
    return read if isinstance(params, Checkpoint) else read.clone()


def permuted_rows(params: Params, name: str, pattern: Pattern, permutation: Permutation) -> Rows:
    """The rows of a permuted tensor.

    The whole tensor is kept only if rows are permuted. If axes are linked, a nested group on one
    and its parent on the other, it is permuted at once, which takes the memory of two.
    """
    read = plain_rows(params, name)
    shape = row_shape(outlined(params)[name])
    if is_linked(pattern):
        whole = permute_tensor(read(0, shape[0]), pattern, permutation)
        return lambda start, stop: whole[start:stop]
    indices = _indices(pattern, shape, permutation)
    if 0 not in indices:
        return lambda start, stop: _take(read(start, stop), indices)
    rows, whole = indices.pop(0), read(0, shape[0])
    return lambda start, stop: _take(_take(whole, {0: rows[start:stop]}), indices)


@dataclass(frozen=True)
class Landing:
    """Where the rows of a tensor go, and how each is permuted within.

    Attributes:
        rows: The new position of each row, `(rows,)`, int64; None if all keep theirs.
        inner: For each other axis that moves, the old position of every new one, `(n,)`, int64.
    """

    rows: Tensor | None
    inner: Mapping[int, Tensor]

    def turned(self, part: Tensor) -> Tensor:
        """Some rows, each permuted within."""
        return _take(part, self.inner)

    def get(self, tensor: Tensor, run: slice) -> Tensor:
        """The present rows of a tensor at the positions where a run of rows goes."""
        return tensor[run] if self.rows is None else tensor.index_select(0, self.rows[run])

    def put_(self, tensor: Tensor, run: slice, part: Tensor) -> None:
        """Write a run of rows to the positions where it goes."""
        if self.rows is None:
            tensor[run] = part
        elif tensor.is_cuda:
            tensor[self.rows[run]] = part
        else:  # whole rows of bytes: 8 times faster than index_copy_ in 16 bits, measured
            there, here = (x.reshape(len(x), -1).view(torch.uint8) for x in (tensor, part))
            there.numpy()[self.rows[run].numpy()] = here.numpy()


def landing(
    params: Params, name: str, pattern: Pattern, permutation: Permutation
) -> tuple[Rows, Landing]:
    """The rows of a tensor in their old order, and where each goes.

    If axes are linked, the tensor is permuted at once, and its rows are in their new order.
    """
    shape = row_shape(outlined(params)[name])
    if is_linked(pattern):
        return permuted_rows(params, name, pattern, permutation), Landing(None, {})
    indices = _indices(pattern, shape, permutation)
    rows = indices.pop(0, None)
    return plain_rows(params, name), Landing(None if rows is None else rows.argsort(), indices)


def keep_freed_memory() -> None:
    """Let the C library keep up to 64 MiB of freed memory for the next run of rows.

    glibc keeps up to twice the size of the largest block freed so far, of at most 32 MiB. In a new
    process that is little, and the temporaries of each run would come from the kernel anew, which
    took half of the time of transporting, measured. The block is never written, so it uses no
    memory.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def gathered(rows: Rows, shape: Sequence[int]) -> Tensor:
    """All rows in one tensor."""
    result = rows(0, 0).new_empty(tuple(shape))
    for run in runs(shape):
        result[run] = rows(run.start, run.stop)
    return result


def _indices(pattern: Pattern, shape: Sequence[int], permutation: Permutation) -> dict[int, Tensor]:
    """For each axis that moves, the old position of every new one."""
    sizes = {name: index.shape[-1] for name, index in permutation.indices.items()}
    found = {
        dim: axis_index(axis_blocks(axis, n, sizes), n, permutation)
        for dim, (axis, n) in enumerate(zip(pattern, shape, strict=False))
    }
    return {d: i for d, i in found.items() if not torch.equal(i, torch.arange(len(i)))}


def _take(tensor: Tensor, indices: Mapping[int, Tensor]) -> Tensor:
    for dim, index in indices.items():
        if 0 < dim == tensor.ndim - 1 and tensor.itemsize < 4:  # 2 times faster there, measured
            tensor = tensor.gather(dim, index.to(tensor.device).expand(tensor.shape))
        else:
            tensor = tensor.index_select(dim, index.to(tensor.device))
    return tensor


def _with_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim else tensor.reshape(1)
