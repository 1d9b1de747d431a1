"""Unfold tensors for matching, so that each set of units that moves together has one axis.

A pattern such as `"(h h/v) d . ."` combines units of several trees of groups, sums and kernel axes.
Matching needs each tensor as one or more *parts* of shape `(rest, n_1, …, n_m)`, one axis for
every *slot*: the units of one tree that the tensor varies over.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from symport.matching._wreath import Facet
from symport.spec import Block, PermutationSpec, axis_blocks, parents, root


@dataclass(frozen=True)
class Slot:
    """One moving axis of a part.

    Attributes:
        tree: The root of the groups that move it.
        facet: Those of its groups that the axis runs over, row-major.
        size: Its length, the product of their sizes.
    """

    tree: str
    facet: Facet
    size: int


@dataclass(frozen=True, eq=False)
class Part:
    """A piece of a tensor without sums, and how to lay it out with one axis for each slot.

    Attributes:
        name: The tensor.
        slots: Its moving axes.
        select: For each axis of the tensor the positions that belong here, `(count,)`; None for
            all.
        factors: The sizes of all factors of the selected tensor.
        order: The fixed factors, then the others slot by slot.

    Example:
        >>> spec = PermutationSpec.parse({"w": ". (a 2)"}, sizes={"a": 3})
        >>> import torch
        >>> (part,) = cut("w", (5, 6), spec)
        >>> part.lay_out(torch.zeros(5, 6)).shape
        torch.Size([10, 3])
    """

    name: str
    slots: tuple[Slot, ...]
    select: tuple[Tensor | None, ...]
    factors: tuple[int, ...]
    order: tuple[int, ...]

    def lay_out(self, tensor: Tensor) -> Tensor:
        """The part of a whole tensor as `(rest, n_1, …, n_m)`; a view where its layout allows."""
        for dim, positions in enumerate(self.select):
            if positions is not None:
                tensor = tensor.index_select(dim, positions.to(tensor.device))
        return (
            tensor.reshape(self.factors)
            .permute(self.order)
            .reshape(-1, *(slot.size for slot in self.slots))
        )


def cut(name: str, shape: Sequence[int], spec: PermutationSpec) -> list[Part]:
    """All parts of a tensor; each of its elements belongs to one of them.

    Args:
        name: A tensor that has a pattern.
        shape: Its shape, which must fit the pattern.
        spec: Gives the pattern and the sizes of the groups.

    Example:
        >>> spec = PermutationSpec.parse({"w": "(a + b) ."}, sizes={"a": 3, "b": 2})
        >>> [part.slots[0].tree for part in cut("w", (5, 4), spec)]
        ['a', 'b']
    """
    choices = [
        axis_blocks(axis, n, spec.sizes) for axis, n in zip(spec.patterns[name], shape, strict=True)
    ]
    return [_part(name, blocks, shape) for blocks in product(*choices)]


def _part(name: str, blocks: Sequence[Block], shape: Sequence[int]) -> Part:
    labels = [label for block in blocks for label in block.labels]
    factors = tuple(n for block in blocks for n in block.positions.shape)
    dims = _slot_dims(labels)
    moving = [dim for slot in dims for dim in slot]
    slots = tuple(
        Slot(
            root(labels[slot[0]] or ""),
            tuple(labels[dim] or "" for dim in slot),
            math.prod(factors[dim] for dim in slot),
        )
        for slot in dims
    )
    select = tuple(
        None if block.positions.numel() == n else block.positions.reshape(-1)
        for block, n in zip(blocks, shape, strict=True)
    )
    fixed = [dim for dim in range(len(labels)) if dim not in moving]
    return Part(name, slots, select, factors, (*fixed, *moving))


def _slot_dims(labels: Sequence[str | None]) -> list[list[int]]:
    """The factors of each slot: one slot for each root, which groups nested in it join."""
    slots: list[list[int]] = []
    moving = [dim for dim, label in enumerate(labels) if label is not None]
    for dim in sorted(moving, key=lambda dim: len(parents(labels[dim] or ""))):
        label = labels[dim] or ""
        chain = set(parents(label))
        homes = [s for s in slots if chain and chain <= {labels[k] for k in s}]
        free = [s for s in homes if label not in {labels[k] for k in s}]
        if free:
            min(free, key=lambda slot: abs(slot[0] - dim)).append(dim)
        else:
            slots.append([dim])
    return slots
