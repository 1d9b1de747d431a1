"""A tensor that is a stack of others of one shape, and operations that move its axes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from symport.symmetry.graph import Operation, Ref, Shape

aten = torch.ops.aten


@dataclass(frozen=True)
class Stack:
    """A tensor that consists of others of one shape.

    Attributes:
        pieces: The others.
        shape: Of each piece.
        places: The number of the piece at each place: one axis for each stacked axis of the whole.
        axes: For each axis of the whole, the axis of a piece, or None if it is stacked.
    """

    pieces: Sequence[Ref]
    shape: Shape
    places: Tensor
    axes: tuple[int | None, ...]

    @property
    def whole(self) -> Shape:
        """The shape of the whole."""
        sizes = iter(self.places.shape)
        return tuple(next(sizes) if k is None else self.shape[k] for k in self.axes)

    @property
    def order(self) -> tuple[int, ...]:
        """The axes of a piece in the order of the whole."""
        return tuple(k for k in self.axes if k is not None)

    def rank(self, dim: int) -> int:
        """The axis of `places` that an axis of the whole is."""
        return sum(k is None for k in self.axes[:dim])


def without(shape: Shape, axis: int) -> Shape:
    """The shape without one axis."""
    return (*shape[:axis], *shape[axis + 1 :])


def turned(op: Operation, stack: Stack, known: Mapping[str, Any]) -> Stack:
    """A stack with its axes in another order, or with a new one of length one."""
    count = len(stack.axes)
    if op.target is aten.unsqueeze.default:
        return unsqueezed(stack, known["dim"] % (count + 1))
    dims = [dim % count for dim in known.get("dims", range(count))]
    if op.target is aten.transpose.int:
        a, b = known["dim0"], known["dim1"]
        dims[a], dims[b] = dims[b], dims[a]
    ranks = [stack.rank(dim) for dim in dims if stack.axes[dim] is None]
    axes = tuple(stack.axes[dim] for dim in dims)
    return replace(stack, places=stack.places.permute(ranks), axes=axes)


def unsqueezed(stack: Stack, dim: int) -> Stack:
    """A stack with one more stacked axis, of length one."""
    axes = (*stack.axes[:dim], None, *stack.axes[dim:])
    return replace(stack, places=stack.places.unsqueeze(stack.rank(dim)), axes=axes)


def laid(op: Operation, stack: Stack) -> Iterator[Operation]:
    """Operations that stack the pieces into the result of a given operation."""
    refs = [stack.pieces[k] for k in cast("list[int]", stack.places.flatten().tolist())]
    value, shape = refs[0], stack.shape
    steps: list[tuple[Any, tuple[Any, ...], Shape]] = []
    inside = len(stack.places.shape)
    flat = (*stack.places.shape, *shape)
    if len(refs) > 1:
        value, row = Ref(f"{op.name}.laid"), (len(refs), *shape)
        yield Operation(value.name, aten.stack.default, (refs, 0), {}, row, op.layer)
    if inside:
        steps.append((aten.view.default, (list(flat),), flat))
    dims = [stack.rank(d) if k is None else inside + k for d, k in enumerate(stack.axes)]
    if dims != sorted(dims):
        steps.append((aten.permute.default, (dims,), stack.whole))
    steps = steps or [(aten.alias.default, (), shape)]
    for k, (target, arguments, made) in enumerate(steps):
        name = op.name if k == len(steps) - 1 else f"{op.name}.laid{k}"
        yield replace(
            op, name=name, target=target, args=(value, *arguments), kwargs={}, shapes=made
        )
        value = Ref(name)
