"""Replace reads from a stack of tensors by the tensors themselves, before axes are related.

A stack has one term for each axis, which ties all tensors in it to one permutation. Where a network
only takes single tensors out again (`h_n[-1]`), or joins them one after the other
(`stack([a, b], 1).flatten(1)`), that is not needed: the tensors are used directly.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from symport.symmetry._propagate import bind
from symport.symmetry.graph import Graph, Operation, Ref, Shape, alive
from symport.symmetry.rewrite._split_stacked import SPLITS, VIEWS, shapes_of
from symport.symmetry.rewrite._stacks import Stack, laid, turned, unsqueezed, without
from symport.symmetry.rules import segments

aten = torch.ops.aten
SAME = {aten.clone.default, aten.alias.default, aten.contiguous.default, aten.detach.default}
REDUCTIONS = {aten.sum.dim_IntList, aten.mean.dim, aten.amax.default, aten.amin.default}
MOST = 128  # tensors in a stack; following more takes long and rarely gains anything


def resolve_stacks(graph: Graph) -> Graph:
    """Replace what is read from a stack of tensors by operations on those tensors."""
    follower = _Follower(shapes_of(graph))
    operations = [new for op in graph.operations for new in follower.follow(op)]
    kept, needed = alive(operations, graph.ends)
    sources = {name: source for name, source in graph.sources.items() if name in needed}
    return replace(graph, operations=kept, sources=sources)


class _Follower:
    """Tracks which values are stacks along a graph."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self.stacks: dict[str, Stack] = {}
        self.parts: dict[tuple[str, int], tuple[Stack, Stack]] = {}
        self.made: list[Operation] = []

    def follow(self, op: Operation) -> list[Operation]:
        """An operation and those that make its pieces, or its result from fewer pieces."""
        self.made = []
        source = op.args[0] if op.args else None
        before = self.stacks.get(source.name) if isinstance(source, Ref) else None
        if op.target in (aten.stack.default, aten.cat.default):
            stack = self._begun(op)
        elif op.target is operator.getitem:
            before, stack = self.parts.get((op.args[0].name, op.args[1]), (None, None))
        else:
            stack = before and self._continued(op, before)
        if stack is None or stack.whole != op.shapes:
            return [op]
        self.stacks[op.name] = stack
        is_less = before is not None and stack.places.numel() < before.places.numel()
        return [*self.made, *(laid(op, stack) if is_less else [op])]

    def _begun(self, op: Operation) -> Stack | None:
        """A new stack, or tensors joined along an axis on which each has length one."""
        refs = cast("Sequence[Any]", op.args[0])
        shapes = {self.shapes.get(ref.name) if isinstance(ref, Ref) else None for ref in refs}
        if len(shapes) != 1 or (shape := shapes.pop()) is None or not 1 < len(refs) <= MOST:
            return None
        dim = cast("int", bind(op.target, op.args, op.kwargs)["dim"])
        places = torch.arange(len(refs), device="cpu")
        if op.target is aten.stack.default:
            dim %= len(shape) + 1
            axes = [*range(dim), None, *range(dim, len(shape))]
            return Stack(refs, shape, places, tuple(axes))
        dim %= len(shape)
        if shape[dim] != 1:
            return None
        less = (*shape[:dim], *shape[dim + 1 :])
        axes = [*range(dim), None, *range(dim, len(less))]
        pieces = [self._make(op, aten.squeeze.dim, (ref, dim), less) for ref in refs]
        return Stack(pieces, less, places, tuple(axes))

    def _make(self, op: Operation, target: Any, args: tuple[Any, ...], shape: Shape) -> Ref:
        """Add an operation in the place of another; its result."""
        name = f"{op.name}.s{len(self.made)}"
        self.made.append(Operation(name, target, args, {}, shape, op.layer))
        self.shapes[name] = shape
        return Ref(name)

    def _continued(self, op: Operation, stack: Stack) -> Stack | None:
        """The result of an operation on a stack; None if it is no stack or not known to be one."""
        known = bind(op.target, op.args, op.kwargs)
        if op.target in SAME:
            return stack
        if op.target in SPLITS:
            return self._split(op, stack, known)
        if op.target in (*VIEWS, *REDUCTIONS):
            way = self._reshaped if op.target in VIEWS else self._reduced
            return way(op, stack, known)
        match op.target:
            case aten.permute.default | aten.transpose.int | aten.unsqueeze.default:
                return turned(op, stack, known)
            case aten.squeeze.dim | aten.squeeze.dims | aten.squeeze.default:
                return self._squeezed(op, stack, known)
            case aten.expand.default | aten.repeat.default:
                return self._widened(op, stack, known)
            case aten.select.int | aten.slice.Tensor:
                return self._picked(op, stack, known)
            case _:
                return self._entrywise(op, stack)

    def _picked(self, op: Operation, stack: Stack, known: Mapping[str, Any]) -> Stack | None:
        """The result of a select or slice."""
        dim = known["dim"] % len(stack.axes)
        if stack.axes[dim] is not None:
            return self._picked_inside(op, stack, dim)
        rank = stack.rank(dim)
        if "index" in known:
            axes = (*stack.axes[:dim], *stack.axes[dim + 1 :])
            places = stack.places.select(rank, known["index"])
            return replace(stack, places=places, axes=axes)
        chosen = range(stack.whole[dim])[known["start"] : known["end"] : known["step"]]
        places = stack.places.index_select(rank, torch.tensor(list(chosen), device="cpu").long())
        return replace(stack, places=places)

    def _picked_inside(self, op: Operation, stack: Stack, dim: int) -> Stack | None:
        """The same select or slice of each piece."""
        axis = cast("int", stack.axes[dim])
        shape = list(stack.shape)
        size = 0 if op.target is aten.select.int else cast("Shape", op.shapes)[dim]
        if size == shape[axis]:
            return stack
        axes = stack.axes
        if op.target is aten.select.int:
            del shape[axis]
            left = (*axes[:dim], *axes[dim + 1 :])
            axes = tuple(k - (k > axis) if k is not None else None for k in left)
        else:
            shape[axis] = size
        pieces = [
            self._make(op, op.target, (piece, axis, *op.args[2:]), tuple(shape))
            for piece in stack.pieces
        ]
        return replace(stack, pieces=pieces, shape=tuple(shape), axes=axes)

    def _split(self, op: Operation, stack: Stack, known: Mapping[str, Any]) -> None:
        """Note the parts of a stacked axis."""
        dim = known["dim"] % len(stack.axes)
        if stack.axes[dim] is not None:
            return
        axes, rank = stack.axes, stack.rank(dim)
        shapes = cast("Sequence[Shape]", op.shapes)
        gone = op.target is aten.unbind.int
        start = 0
        for k, shape in enumerate(shapes):
            size = 1 if gone else shape[dim]
            part = stack.places.narrow(rank, start, size)
            start += size
            if gone:
                part, axes = part.squeeze(rank), (*stack.axes[:dim], *stack.axes[dim + 1 :])
            self.parts[op.name, k] = (stack, replace(stack, places=part, axes=axes))

    def _entrywise(self, op: Operation, stack: Stack) -> Stack | None:
        """The result of an operation entry by entry: that of each piece."""
        tags: Sequence[torch.Tag] = getattr(op.target, "tags", ())
        others = [*op.args[1:], *op.kwargs.values()]
        if torch.Tag.pointwise not in tags or torch.Tag.nondeterministic_seeded in tags:
            return None
        if any(isinstance(other, (Ref, list, tuple)) for other in others):
            return None
        made = [
            replace(op, name=f"{op.name}.s{k}", args=(piece, *op.args[1:]), shapes=stack.shape)
            for k, piece in enumerate(stack.pieces)
        ]
        self.made += made
        self.shapes |= {new.name: stack.shape for new in made}
        return replace(stack, pieces=[Ref(new.name) for new in made])

    def _squeezed(self, op: Operation, stack: Stack, known: Mapping[str, Any]) -> Stack:
        """Without axes of length one, stacked or not."""
        dims = cast("int | Sequence[int]", known.get("dim", range(len(stack.axes))))
        chosen = [dims] if isinstance(dims, int) else dims
        count = len(stack.axes)
        for dim in sorted((dim % count for dim in chosen), reverse=True):
            if stack.whole[dim] != 1:
                continue
            axis, axes = stack.axes[dim], (*stack.axes[:dim], *stack.axes[dim + 1 :])
            if axis is None:
                places = stack.places.squeeze(stack.rank(dim))
                stack = replace(stack, places=places, axes=axes)
            else:
                stack = self._each(op, stack, aten.squeeze.dim, (axis,), without(stack.shape, axis))
                left = tuple(k - (k > axis) if k is not None else None for k in axes)
                stack = replace(stack, axes=left)
        return stack

    def _each(
        self, op: Operation, stack: Stack, target: Any, args: tuple[Any, ...], shape: Shape
    ) -> Stack:
        """The same operation on each piece; their axes keep their numbers."""
        pieces = [self._make(op, target, (piece, *args), shape) for piece in stack.pieces]
        return replace(stack, pieces=pieces, shape=shape)

    def _widened(self, op: Operation, stack: Stack, known: Mapping[str, Any]) -> Stack | None:
        """Copies along axes of the pieces; a stacked axis of length one becomes one of them."""
        whole = cast("Shape", op.shapes)
        sizes = cast("Sequence[int]", known["size" if "size" in known else "repeats"])
        for _ in range(len(whole) - len(stack.axes)):
            stack = unsqueezed(stack, 0)
        wider = [dim for dim, size in enumerate(stack.whole) if size != whole[dim]]
        for dim in wider:
            if stack.axes[dim] is None:
                if stack.whole[dim] != 1:
                    return None
                places, last = stack.places.squeeze(stack.rank(dim)), len(stack.shape)
                shape = (*stack.shape, 1)
                stack = self._each(op, stack, aten.unsqueeze.default, (last,), shape)
                axes = (*stack.axes[:dim], last, *stack.axes[dim + 1 :])
                stack = replace(stack, places=places, axes=axes)
        arguments = [1] * len(stack.shape) if op.target is aten.repeat.default else [*stack.shape]
        shape = list(stack.shape)
        for dim, axis in enumerate(stack.axes):
            if axis is not None:
                arguments[axis], shape[axis] = sizes[dim], whole[dim]
        return self._each(op, stack, op.target, (arguments,), tuple(shape))

    def _reduced(self, op: Operation, stack: Stack, known: Mapping[str, Any]) -> Stack | None:
        """A reduction over stacked axes only, as reductions over pieces."""
        dims = sorted({dim % len(stack.axes) for dim in known["dim"] or ()})
        if not dims or known["keepdim"] or any(stack.axes[dim] is not None for dim in dims):
            return None
        ranks = [stack.rank(dim) for dim in dims]
        places = stack.places.movedim(ranks, list(range(-len(ranks), 0)))
        left = places.shape[: places.ndim - len(ranks)]
        rows = cast(
            "list[list[int]]", places.reshape(-1, math.prod(places.shape[len(left) :])).tolist()
        )
        pieces: list[Ref] = []
        for row in rows:
            shape = (len(row), *stack.shape)
            laid = self._make(op, aten.stack.default, ([stack.pieces[k] for k in row], 0), shape)
            pieces.append(self._make(op, op.target, (laid, [0]), stack.shape))
        axes = tuple(axis for dim, axis in enumerate(stack.axes) if dim not in dims)
        index = torch.arange(len(rows), device="cpu").reshape(left)
        return Stack(pieces, stack.shape, index, axes)

    def _reshaped(self, op: Operation, stack: Stack, known: Mapping[str, Any]) -> Stack | None:
        """A reshape of axes of one kind, or one that merges stacked axes with one of the pieces."""
        if 0 in (whole := cast("Shape", op.shapes)) or "dtype" in known:
            return None
        stack = self._in_order(op, stack)
        shape, sizes, axes = list[int](), list[int](), list[int | None]()
        joins: list[tuple[int, int]] = []
        for old, new in segments(stack.whole, whole):
            stacked = [k for k in old if stack.axes[k] is None]
            inner = [k for k in old if stack.axes[k] is not None]
            count = math.prod(stack.whole[k] for k in stacked)
            if not inner:
                axes += [None] * len(new)
                sizes += [whole[k] for k in new]
            elif count == 1:
                axes += range(len(shape), len(shape) + len(new))
                shape += [whole[k] for k in new]
            elif len(new) == 1 and old == [*stacked, *inner]:
                joins.append((len(sizes), len(shape)))
                axes.append(len(shape))
                sizes.append(count)
                shape.append(math.prod(stack.whole[k] for k in inner))
            else:
                return None
        pieces = stack.pieces
        if tuple(shape) != stack.shape:
            pieces = [self._make(op, aten.view.default, (p, shape), tuple(shape)) for p in pieces]
        stack = Stack(pieces, tuple(shape), stack.places.reshape(sizes), tuple(axes))
        for dim, axis in reversed(joins):
            stack = self._joined(op, stack, dim, axis)
        return stack

    def _in_order(self, op: Operation, stack: Stack) -> Stack:
        """The stack with the axes of its pieces in the order of the whole."""
        order = stack.order
        if list(order) == sorted(order):
            return stack
        shape = tuple(stack.shape[k] for k in order)
        pieces = [self._make(op, aten.permute.default, (p, order), shape) for p in stack.pieces]
        axes = tuple(None if k is None else order.index(k) for k in stack.axes)
        return Stack(pieces, shape, stack.places, axes)

    def _joined(self, op: Operation, stack: Stack, dim: int, axis: int) -> Stack:
        """The stack with the pieces along one axis of `places` concatenated."""
        places = stack.places.movedim(dim, -1)
        rows = cast("list[list[int]]", places.reshape(-1, places.shape[-1]).tolist())
        shape = list(stack.shape)
        shape[axis] *= places.shape[-1]
        pieces = [
            self._make(op, aten.cat.default, ([stack.pieces[k] for k in row], axis), tuple(shape))
            for row in rows
        ]
        index = torch.arange(len(rows), device="cpu").reshape(places.shape[:-1])
        return Stack(pieces, tuple(shape), index, stack.axes)
