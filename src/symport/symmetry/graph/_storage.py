"""Where tensors lie in memory: those that share it are one tensor, whatever their shapes.

A transpose, a reshape or a slice of a weight that is a parameter itself is overwritten with it, so
one permutation must move both. Where each axis of the one is an axis, a product of axes or a range
of an axis of the other, their axes are tied; elsewhere they are fixed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from symport.symmetry._terms import Term, atoms, fix, product, split, tie

Axes: TypeAlias = tuple[Term, ...]
MOST_ENTRIES = 100_000_000  # larger tensors whose ranges overlap count as sharing entries


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in memory; equal places are the same entries in the same order.

    Attributes:
        storage: Identity of its storage, which exists on the meta device as well.
        start: Of its first entry, in entries.
        shape: Its shape.
        strides: Steps in memory along each axis, in entries; 0 along an axis of length 1.
        dtype: Type of the entries.
    """

    storage: int
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> "Place":
        """The place of a tensor; one without a storage of its own shares memory with none."""
        shape = tuple(tensor.shape)
        try:
            storage = int(cast("Any", tensor.untyped_storage())._cdata)
            strides = tuple(s if n > 1 else 0 for n, s in zip(shape, tensor.stride(), strict=True))
            return cls(storage, int(tensor.storage_offset()), shape, strides, tensor.dtype)
        except (RuntimeError, NotImplementedError, ValueError):  # made of others, or not made yet
            return cls(id(tensor), 0, shape, _row_major(shape), tensor.dtype)

    @property
    def count(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """One past its last entry."""
        return (
            self.start + 1 + sum(s * (n - 1) for n, s in zip(self.shape, self.strides, strict=True))
        )

    @property
    def steps(self) -> list[tuple[int, int, int]]:
        """Stride, length and number of each axis longer than 1, the slowest first."""
        found = zip(self.strides, self.shape, itertools.count(), strict=False)
        return sorted((axis for axis in found if axis[1] > 1), reverse=True)

    @property
    def is_dense(self) -> bool:
        """Whether it fills its range of memory without gaps."""
        return self.stop - self.start == self.count and self.is_regular

    @property
    def is_regular(self) -> bool:
        """Whether no two indices refer to the same entry."""
        inner = 1
        for stride, length, _ in reversed(self.steps):
            if stride < inner:
                return False
            inner = stride * length
        return True

    def entries(self) -> Tensor:
        """The place in memory of every entry, shape `(count,)`."""
        found = torch.tensor([self.start])
        for stride, length, _ in self.steps:
            found = (found[:, None] + stride * torch.arange(length)).flatten()
        return found


def overlap(a: Place, b: Place) -> bool:
    """Whether two tensors have an entry in common."""
    sizes = a.dtype.itemsize, b.dtype.itemsize
    if a.storage != b.storage or 0 in (a.count, b.count):
        return False
    if a.start * sizes[0] >= b.stop * sizes[1] or b.start * sizes[1] >= a.stop * sizes[0]:
        return False
    if sizes[0] != sizes[1] or a.count + b.count > MOST_ENTRIES or (a.is_dense and b.is_dense):
        return True
    return bool(torch.isin(a.entries(), b.entries()).any())


def tie_shared(places: Mapping[str, Place], axes: Mapping[str, Axes]) -> Iterator[Axes]:
    """Tie the axes of tensors that share memory, or fix them.

    Args:
        places: Of the tensors, by name.
        axes: Of the tensors, by name.

    Yields:
        Axes that occur together: all of a tensor as one axis, where the other tensor divides the
        memory differently, since factors that are adjacent in one shape may not be in the other.
    """
    for name, place in places.items():
        if not place.is_regular:
            for term in axes[name]:
                fix(term, f"entries of {name} share memory with each other")
    for a, b in shared(places):
        reason = f"{a} and {b} share memory"
        tied = _tie(places[a], axes[a], places[b], axes[b])
        if tied == "flat":
            yield from ((_flat(places[name], axes[name]),) for name in (a, b))
        elif tied is None:
            for term in (*axes[a], *axes[b]):
                fix(term, f"{reason} in a way that ties no axis of the one to one of the other")
        for atom in (atom for term in (*axes[a], *axes[b]) for atom in atoms(term)):
            if atom.reason is not None and "share memory" not in atom.reason:
                atom.reason = f"{reason}: {atom.reason}"


def shared(places: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    """Pairs of tensors that have entries in common, the larger first."""
    homes: dict[int, list[str]] = {}
    for name, place in places.items():
        homes.setdefault(place.storage, []).append(name)
    for names in homes.values():
        names.sort(key=lambda name: -places[name].count)
        for a, b in itertools.combinations(names, 2):
            if overlap(places[a], places[b]):
                yield a, b


def _tie(a: Place, a_axes: Axes, b: Place, b_axes: Axes) -> Literal["axes", "flat"] | None:
    """Relate two tensors that overlap, by axes or by all entries; None if that cannot be done."""
    if a.dtype.itemsize != b.dtype.itemsize or not (a.is_regular and b.is_regular):
        return None
    if (box := _box(a, b)) is not None:
        for term, (start, length, other) in zip(a_axes, box, strict=True):
            part = _parts(term, [start, length, term.size - start - length])[1]
            tie(part, b_axes[other] if other is not None else Term(length))
        return "axes"
    if not (a.is_dense and b.is_dense):
        return None
    begin, end = max(a.start, b.start), min(a.stop, b.stop)
    common = [
        _parts(_flat(p, axes), [begin - p.start, end - begin, p.stop - end])[1]
        for p, axes in ((a, a_axes), (b, b_axes))
    ]
    tie(*common)
    return "flat"


def _box(a: Place, b: Place) -> list[tuple[int, int, int | None]] | None:
    """For each axis of `a` the start and length of `b` on it, and which axis of `b` that is.

    None if `b` is no box in `a`.
    """
    rest = b.start - a.start
    found: list[tuple[int, int, int | None]] = [(0, 1, None)] * len(a.shape)
    left = {stride: (length, number) for stride, length, number in b.steps}
    for stride, size, number in a.steps:
        start, rest = divmod(rest, stride)
        length, other = left.pop(stride, (1, None))
        if start < 0 or start + length > size:
            return None
        found[number] = (start, length, other)
    return None if left or rest else found


def _flat(place: Place, axes: Axes) -> Term:
    """All entries of a dense tensor as one axis, in memory order."""
    return product(axes[number] for _, _, number in place.steps)


def _parts(term: Term, sizes: Sequence[int]) -> list[Term]:
    pieces = iter(split(term, sizes) if term.size else ())
    return [next(pieces) if size else Term(0) for size in sizes]


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[dim + 1 :]) if n > 1 else 0 for dim, n in enumerate(shape))
