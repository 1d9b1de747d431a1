"""Carry a fine-tune over to a new base, tensor by tensor: θ_new + α · π(θ_tuned − θ_old).

At most two whole tensors are in memory, however many there are: the fine-tune's, already permuted,
and the old base's if its rows move; all else is read in runs of rows. (Three where axes are linked,
or dtypes differ.) The arithmetic is in float32, float64 stays. What the fine-tune did not change
keeps the bits of the new base.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from symport.checkpoint import Checkpoint
from symport.errors import ParamsError, SpecError
from symport.params import Params, check_finite, listed, takes_part
from symport.pattern import Pattern, axis_blocks, groups_in, parents
from symport.permute import axis_index, permute_tensor
from symport.spec import Permutation, PermutationSpec

COUNTS = (torch.int64, torch.bool)  # positions and masks too; quantized weights are narrower
CHUNK = 2**18  # elements at a time: what is computed on stays in a core's cache

Rows: TypeAlias = Callable[[int, int], Tensor]


def transport(
    old: Params,
    tuned: Params,
    new: Params,
    spec: PermutationSpec,
    permutation: Permutation,
    *,
    length: float = 1.0,
) -> Iterator[tuple[str, Tensor]]:
    """Compute θ_new + length · π(θ_tuned − θ_old), one tensor at a time.

    Buffers and counts are those of the new base. A tensor that the old base lacks, such as a new
    head, is the permuted one of the fine-tune. Where the new base is the permuted old one to the
    bit and the length is 1, the result is the permuted fine-tune to the bit.

    Args:
        old: The base that was tuned: a `Checkpoint`, or any dict of tensors.
        tuned: The fine-tune. Its names are those of the result.
        new: The base to carry it to; its dtypes are those of the result.
        spec: The symmetry of the network; a pattern for each tensor that differs.
        permutation: Which unit of the old base stands where in the new one.
        length: How far to go; 1 is the whole displacement.

    Returns:
        Names and tensors in the order of `tuned`, each computed when it is asked for.

    Raises:
        ParamsError: Names or shapes do not agree; or, when its turn comes, a tensor holds NaN or
            infinity, or is quantized and differs from that of the old base.
        SpecError: A tensor does not fit its pattern; or, when its turn comes, has none and differs
            from that of the old base.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> flip = Permutation({"h": torch.tensor([1, 0])})
        >>> old, tuned, new = ({"w": torch.tensor(w)} for w in ([1.0, 2.0], [1.0, 5.0], [7.0, 8.0]))
        >>> dict(transport(old, tuned, new, spec, flip))
        {'w': tensor([10.,  8.])}
    """
    outline = outline_of(old, tuned, new)
    spec.check({name: tensor for name, tensor in outline.items() if name in spec.patterns})
    permutation.check(spec)
    if lost := [name for name in outline if name not in old and name not in spec.patterns]:
        raise SpecError(f"the spec has no pattern for {listed(lost)}, which only the fine-tune has")
    task = _Task(old, tuned, new, spec, permutation, length)
    return ((name, task.tensor(name, like)) for name, like in outline.items())


def outline_of(old: Params, tuned: Params, new: Params) -> dict[str, Tensor]:
    """Shapes and dtypes of what `transport` yields, for `write_checkpoint`.

    Raises:
        ParamsError: Names or shapes do not agree.
    """
    before, after, base = (_outline(params) for params in (old, tuned, new))
    shared = [name for name in after if name in before]
    if lost := [name for name in shared if name not in base]:
        raise ParamsError(f"the new base lacks {listed(lost)}, which old base and fine-tune have")
    for what, other in (("old", before), ("new", base)):
        if odd := [name for name in shared if other[name].shape != after[name].shape]:
            shapes = [f"{tuple(side[odd[0]].shape)} in the" for side in (other, after)]
            raise ParamsError(
                f"the shapes of {listed(odd)} differ: {shapes[0]} {what} base, "
                f"{shapes[1]} fine-tune; both must be of one architecture and vocabulary"
            )
    return {name: base[name] if name in before else tensor for name, tensor in after.items()}


@dataclass(frozen=True, eq=False)
class _Task:
    old: Params
    tuned: Params
    new: Params
    spec: PermutationSpec
    permutation: Permutation
    length: float

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """One tensor of the result, of the shape and dtype of `like`."""
        if name in self.new and (name in self.spec.buffers or like.dtype in COUNTS):
            return self.new[name]
        if name not in self.old:
            found = self._permuted(self.tuned, name, _shape(like))
            self._check(name, found)
        elif name in self.spec.patterns and self._has_arithmetic(name):
            found = self._displaced(name, like)
        else:
            found = self._unchanged(name, like)
        return found.reshape(like.shape)

    def _has_arithmetic(self, name: str) -> bool:
        """Whether no side is of integers, or of the 8-bit formats, whose scales are elsewhere."""
        sides = [_reader(params, name)(0, 0) for params in (self.old, self.tuned, self.new)]
        return all(takes_part(side) and side.itemsize > 1 for side in sides)

    def _unchanged(self, name: str, like: Tensor) -> Tensor:
        """The new base's tensor, if the fine-tune has that of the old base."""
        old, tuned = self.old[name], self.tuned[name]
        if old.dtype == tuned.dtype and torch.equal(_bits(old), _bits(tuned)):
            return self.new[name]
        if name not in self.spec.patterns:
            raise SpecError(f"{name}: the fine-tune changed it, and the spec has no pattern for it")
        raise ParamsError(
            f"{name}: the fine-tune changed it, and it is not in a floating-point dtype of 16 bits "
            f"or more ({old.dtype}, {tuned.dtype}, {like.dtype}); if it is quantized, dequantize "
            "all three models first"
        )

    def _displaced(self, name: str, like: Tensor) -> Tensor:
        shape = _shape(like)
        tuned = self._permuted(self.tuned, name, shape)
        result = tuned if tuned.dtype == like.dtype else tuned.new_empty(shape, dtype=like.dtype)
        old = self._rows(self.old, name, shape)
        new = _reader(self.new, name)
        for run in _runs(shape):
            part = result[slice(*run)]
            part.copy_(_displace(new(*run), tuned[slice(*run)], old(*run), self.length))
            self._check(name, part)
        return result

    def _permuted(self, params: Params, name: str, shape: Sequence[int]) -> Tensor:
        """A whole tensor, its units in their new order."""
        rows = self._rows(params, name, shape)
        result = rows(0, 0).new_empty(shape)
        for run in _runs(shape):
            result[slice(*run)] = rows(*run)
        return result

    def _rows(self, params: Params, name: str, shape: Sequence[int]) -> Rows:
        """The rows of a permuted tensor; the whole is kept only if rows change places."""
        read = _reader(params, name)
        pattern = self.spec.patterns[name]
        if _is_linked(pattern):
            whole = permute_tensor(read(0, shape[0]), pattern, self.permutation)
            return lambda start, stop: whole[start:stop]
        indices = _indices(pattern, shape, self.permutation)
        if 0 not in indices:
            return lambda start, stop: _take(read(start, stop), indices)
        rows, whole = indices.pop(0), read(0, shape[0])
        return lambda start, stop: _take(_take(whole, {0: rows[start:stop]}), indices)

    def _check(self, name: str, part: Tensor) -> None:
        """Raise ParamsError if part of a result is not finite, with the input that is to blame."""
        wide = torch.promote_types(part.dtype, torch.float32)
        if not takes_part(part) or part.sum(dtype=wide).isfinite():
            return
        sides = {"the old base": self.old, "the fine-tune": self.tuned, "the new base": self.new}
        for what, params in sides.items():
            check_finite({name: params[name]} if name in params else {}, what)
        check_finite({name: part}, f"the result in {part.dtype}")


def _displace(new: Tensor, tuned: Tensor, old: Tensor, length: float) -> Tensor:
    """θ_new + length · (θ_tuned − θ_old), such that no change keeps each bit, −0 too."""
    if length == 0:
        return new
    if length == 1 and new.dtype == old.dtype == tuned.dtype and torch.equal(new, old):
        return tuned
    wide = torch.promote_types(torch.promote_types(new.dtype, tuned.dtype), torch.float32)
    first, second = (old, tuned) if length > 0 else (tuned, old)
    change = first.to(wide, copy=True).sub_(second)  # 0, not −0, where they agree
    return torch.sub(new.to(wide), change, alpha=abs(length))


def _is_linked(pattern: Pattern) -> bool:
    """Whether a group has a parent on another axis, so that axes must be permuted together."""
    needed = [({p for g in groups_in(a) for p in parents(g)}, set(groups_in(a))) for a in pattern]
    return any(above - here for above, here in needed)


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
        if 0 < dim == tensor.ndim - 1:  # 3 times faster in 16 bits than index_select, measured
            tensor = tensor.gather(dim, index.to(tensor.device).expand(tensor.shape))
        else:
            tensor = tensor.index_select(dim, index.to(tensor.device))
    return tensor


def _runs(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    step = max(1, CHUNK // max(1, math.prod(shape[1:])))
    return ((start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _reader(params: Params, name: str) -> Rows:
    """The rows of a tensor as it is; a number counts as one row."""
    if isinstance(params, Checkpoint):
        return lambda start, stop: _with_rows(params.rows(name, start, stop))
    tensor = _with_rows(params[name].detach())
    return lambda start, stop: tensor[start:stop]


def _with_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim else tensor.reshape(1)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape) or (1,)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _outline(params: Params) -> Params:
    return params.outline() if isinstance(params, Checkpoint) else params
