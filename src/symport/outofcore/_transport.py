"""Carry a fine-tune over to a new base, tensor by tensor: θ_new + α · π(θ_tuned − θ_old).

One tensor is in memory at a time (three where axes are linked, or a head is new). It starts as the
new base's, and the permuted displacement is added in runs of rows. The arithmetic is in float32, or
in float64 for tensors of that dtype. Elements that the fine-tune did not change keep the bits of
the new base.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from symport.errors import ParamsError, SpecError
from symport.outofcore._row_blocks import (
    Landing,
    gathered,
    keep_freed_memory,
    landing,
    outlined,
    permuted_rows,
    plain_rows,
    prefetch,
    row_shape,
    runs,
    whole_rows,
)
from symport.params import Params, check_finite, is_inexact, listed
from symport.spec import Fixed, Permutation, PermutationSpec

COUNTS = (torch.int64, torch.bool)  # positions and masks too; quantized weights are narrower


def transport(
    old: Params,
    tuned: Params,
    new: Params,
    spec: PermutationSpec,
    permutation: Permutation,
    *,
    scale: float = 1.0,
    shared_statistics: bool = True,
) -> Iterator[tuple[str, Tensor]]:
    """Compute θ_new + scale · π(θ_tuned − θ_old), one tensor at a time.

    Buffers and counts are those of the new base. A tensor that the old base lacks, such as a new
    head, is the permuted one of the fine-tune. Where the new base equals the permuted old one to
    the bit and the scale is 1, the result equals the permuted fine-tune to the bit, buffers
    included.

    Args:
        old: The base that was tuned: a `Checkpoint`, or any dict of tensors.
        tuned: The fine-tune. Its names are those of the result.
        new: The base to carry it to; its dtypes are those of the result.
        spec: The symmetry of the network; a pattern for each tensor that differs.
        permutation: From units of the old base to positions in the new one.
        scale: The factor on the displacement.
        shared_statistics: Whether buffers that are equal in both bases become the fine-tune's.

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
    keep_freed_memory()
    is_whole = shared_statistics and scale == 1
    task = _Task(old, tuned, new, spec, permutation, scale, is_whole)
    return task.tensors(outline)


def outline_of(old: Params, tuned: Params, new: Params) -> dict[str, Tensor]:
    """Tensors of the shapes and dtypes that `transport` yields, for `write_checkpoint`.

    Raises:
        ParamsError: Names or shapes do not agree.

    Example:
        >>> old, tuned = {"w": torch.zeros(2)}, {"w": torch.ones(2), "head": torch.ones(3)}
        >>> new = {"w": torch.zeros(2, dtype=torch.bfloat16)}
        >>> {name: tensor.dtype for name, tensor in outline_of(old, tuned, new).items()}
        {'w': torch.bfloat16, 'head': torch.float32}
    """
    before, after, base = (outlined(params) for params in (old, tuned, new))
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
    scale: float
    shared_statistics: bool

    def tensors(self, outline: Params) -> Iterator[tuple[str, Tensor]]:
        """All tensors of the result; the disk reads for the next one while one is computed."""
        following = [*outline, ""][1:]
        for (name, like), after in zip(outline.items(), following, strict=True):
            for params in (self.old, self.tuned, self.new):
                prefetch(params, after)
            yield name, self.tensor(name, like)

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """One tensor of the result, of the shape and dtype of `like`."""
        if name in self.new and (name in self.spec.buffers or like.dtype in COUNTS):
            return self._statistics(name)
        if name not in self.old:
            rows = permuted_rows(self.tuned, name, self.spec.patterns[name], self.permutation)
            found = gathered(rows, row_shape(like))
            self._check(name, found)
        elif name in self.spec.patterns and self._has_arithmetic(name):
            found = self._displaced(name, like)
        else:
            found = self._unchanged(name, like)
        return found.reshape(like.shape)

    def _statistics(self, name: str) -> Tensor:
        """The new base's, or the fine-tune's where the new base has those of the old one."""
        new = self.new[name]
        if not self.shared_statistics or name not in self.old:
            return new
        pattern = self.spec.patterns.get(name, (Fixed(),) * new.ndim)
        old, tuned = (
            gathered(permuted_rows(side, name, pattern, self.permutation), row_shape(new))
            for side in (self.old, self.tuned)
        )
        is_shared = old.dtype == new.dtype and torch.equal(_bits(old), _bits(new))
        return tuned.to(new.dtype).reshape(new.shape) if is_shared else new

    def _has_arithmetic(self, name: str) -> bool:
        """Whether all three are floating-point of 16 bits or more; 8-bit formats need scales."""
        sides = [plain_rows(params, name)(0, 0) for params in (self.old, self.tuned, self.new)]
        return all(is_inexact(side) and side.itemsize > 1 for side in sides)

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
        how = self.spec.patterns[name], self.permutation
        (old, there), (tuned, _) = (landing(p, name, *how) for p in (self.old, self.tuned))
        result = whole_rows(self.new, name)
        dtypes = {params[name].dtype for params in map(outlined, (self.old, self.tuned, self.new))}
        is_copy = self.scale == 1 and len(dtypes) == 1  # as far as the first run of rows tells
        for run in runs(row_shape(like)):
            before, after = (rows(run.start, run.stop) for rows in (old, tuned))
            part = there.get(result, run)
            is_copy = is_copy and torch.equal(part, there.turned(before))
            if is_copy:
                found = there.turned(after)
            else:
                found = _displace(part, after, before, self.scale, there)
            self._check(name, found)
            there.put_(result, run, found)
        return result

    def _check(self, name: str, part: Tensor) -> None:
        """Raise ParamsError, naming the input, if part of a result is not finite."""
        wide = torch.promote_types(part.dtype, torch.float32)
        if not is_inexact(part) or part.sum(dtype=wide).isfinite():
            return
        sides = {"the old base": self.old, "the fine-tune": self.tuned, "the new base": self.new}
        for what, params in sides.items():
            check_finite({name: params[name]} if name in params else {}, what)
        check_finite({name: part}, f"the result in {part.dtype}")


def _displace(new: Tensor, tuned: Tensor, old: Tensor, scale: float, there: Landing) -> Tensor:
    """θ_new + scale · π(θ_tuned − θ_old); a displacement of zero keeps each bit, −0 too."""
    if scale == 0:
        return new
    wide = torch.promote_types(torch.promote_types(new.dtype, tuned.dtype), torch.float32)
    first, second = (old, tuned) if scale > 0 else (tuned, old)
    change = there.turned(first.to(wide) - second.to(wide))  # 0, not −0, where they agree
    return torch.sub(new.to(wide), change, alpha=abs(scale)).to(new.dtype)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
