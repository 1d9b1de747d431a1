"""Split the stacked parts of an axis before axes are related.

Fused attention reshapes the rows of one weight to (3, heads, units) and then picks queries, keys
and values by position. Taken literally, that would tie all three to one permutation. So where a
reshape splits an axis and everything after it only picks ranges of one of the new axes, the ranges
are cut from the axis before it is split, as `chunk` would have done.
"""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import torch

from symport.symmetry.graph import Graph, Operation, Ref, Shape, alive
from symport.symmetry.rules import segments

aten = torch.ops.aten
Path: TypeAlias = tuple[Operation, ...]
VIEWS = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
}
CARRIERS = {
    aten.permute.default,
    aten.transpose.int,
    aten.clone.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
}
PICKS = {aten.select.int, aten.slice.Tensor}
SPLITS = {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int}


@dataclass(frozen=True)
class Pick:
    """A range of one axis of a reshaped tensor.

    Attributes:
        path: Operations between the reshape and the pick, which leave the axis intact.
        operation: The one that picks: select, slice, or the getitem of a split.
        axis: The axis of the reshape that is picked from.
        place: The number of that axis when it is picked from.
        chosen: The positions.
        drops: Whether the axis is removed, as by select.
    """

    path: Path
    operation: Operation
    axis: int
    place: int
    chosen: range
    drops: bool


def split_stacked(graph: Graph) -> Graph:
    """Cut stacked parts before the reshape instead of after it, wherever that is possible."""
    readers: dict[str, list[Operation]] = {}
    for operation in graph.operations:
        for name in dict.fromkeys(_read(operation)):
            readers.setdefault(name, []).append(operation)
    for name in graph.ends:
        readers.setdefault(name, []).append(_END)
    shapes = shapes_of(graph)
    replaced: dict[str, list[Operation]] = {}
    for view in graph.operations:
        if view.target in VIEWS:
            picks = list(_picks(view, view.name, (), list(range(_ndim(view))), readers))
            width = _stacked(view, picks, shapes)
            for pick in picks if width else ():
                if pick is not None:
                    replaced[pick.operation.name] = _cut_first(view, pick, width)
            if width:
                replaced[view.name] = [_merged(view, cast("Pick", picks[0]).axis, width)]
    operations = [new for old in graph.operations for new in replaced.get(old.name, [old])]
    kept, needed = alive(operations, graph.ends)
    sources = {name: source for name, source in graph.sources.items() if name in needed}
    return replace(graph, operations=kept, sources=sources)


_END = Operation("", print, (), {}, None)


def _read(operation: Operation) -> Iterator[str]:
    for argument in (*operation.args, *operation.kwargs.values()):
        for item in argument if isinstance(argument, (list, tuple)) else (argument,):
            if isinstance(item, Ref):
                yield item.name


def shapes_of(graph: Graph) -> dict[str, Shape]:
    """The shape of every tensor in a graph."""
    known = {name: source.shape for name, source in graph.sources.items()}
    known |= {op.name: op.shapes for op in graph.operations if isinstance(op.shapes, tuple)}
    return {name: shape for name, shape in known.items() if shape is not None}


def _ndim(operation: Operation) -> int:
    return len(operation.shapes or ())


def _picks(
    view: Operation,
    name: str,
    path: Path,
    axes: Sequence[int],
    readers: Mapping[str, Sequence[Operation]],
) -> Iterator[Pick | None]:
    """Follow a tensor to the operations that pick from it; None for any other that reads it.

    `axes` has the axis of the view that each axis of the tensor is, -1 for a new one.
    """
    for reader in readers.get(name, ()):
        if reader.target in CARRIERS or reader.target in VIEWS:
            moved = _moved(reader, axes, _shape(path[-1] if path else view))
            yield from _picks(view, reader.name, (*path, reader), moved, readers)
        elif reader.target in PICKS:
            yield _pick(view, reader, path, axes)
        elif reader.target in SPLITS:
            yield from _split_picks(reader, path, axes, readers)
        else:
            yield None


def _moved(carrier: Operation, axes: Sequence[int], before: Shape) -> list[int]:
    """The axis of the first view that each axis is after a carrier; -1 for none or several."""
    if carrier.target in VIEWS:
        return _seen_again(axes, before, _shape(carrier))
    arguments = carrier.args[1:]
    moved = list(axes)
    match carrier.target:
        case aten.permute.default:
            moved = [axes[dim] for dim in arguments[0]]
        case aten.transpose.int:
            a, b = arguments
            moved[a], moved[b] = moved[b], moved[a]
        case aten.unsqueeze.default:
            moved.insert(arguments[0] % (len(axes) + 1), -1)
        case aten.squeeze.dim if _ndim(carrier) < len(axes):
            del moved[arguments[0]]
        case _:
            pass
    return moved


def _seen_again(axes: Sequence[int], before: Shape, after: Shape) -> list[int]:
    """The axis of the first view that each axis of a second one is, where it is left whole."""
    found = [-1] * len(after)
    for old, new in segments(before, after):
        was, now = [k for k in old if before[k] != 1], [k for k in new if after[k] != 1]
        if len(was) == len(now) == 1:
            found[now[0]] = axes[was[0]]
    return found


def _pick(view: Operation, reader: Operation, path: Path, axes: Sequence[int]) -> Pick | None:
    dim, *rest = (*reader.args[1:], *([0] if len(reader.args) < 2 else []))
    place = dim % len(axes)
    length = _shape(view)[axes[place]] if axes[place] >= 0 else 1
    if reader.target is aten.select.int:
        start = rest[0] % length
        return Pick(path, reader, axes[place], place, range(start, start + 1), drops=True)
    start, stop, step = (*rest, *(None, None, 1)[len(rest) :])
    chosen = range(*slice(start, stop, step).indices(length))
    return Pick(path, reader, axes[place], place, chosen, drops=False) if step == 1 else None


def _split_picks(
    reader: Operation,
    path: Path,
    axes: Sequence[int],
    readers: Mapping[str, Sequence[Operation]],
) -> Iterator[Pick | None]:
    default = 1 if reader.target is aten.unbind.int else 2
    dim = reader.args[default] if len(reader.args) > default else reader.kwargs.get("dim", 0)
    place = dim % len(axes)
    drops = reader.target is aten.unbind.int
    shapes = cast("Sequence[Any]", reader.shapes)
    sizes = [1 if drops else shape[place] for shape in shapes]
    for getitem in readers.get(reader.name, ()):
        if getitem.target is not operator.getitem:
            yield None
            continue
        index: int = getitem.args[1]
        start = sum(sizes[:index])
        chosen = range(start, start + sizes[index])
        yield Pick(path, getitem, axes[place], place, chosen, drops)


def _stacked(view: Operation, picks: Sequence[Pick | None], shapes: Mapping[str, Shape]) -> int:
    """The number of axes that the view splits off after the one that all its readers pick from."""
    found = {pick.axis if pick is not None else -1 for pick in picks}
    if len(found) != 1 or (axis := found.pop()) < 0:
        return 0
    before, after = shapes[view.args[0].name], _shape(view)
    ends = {math.prod(before[k:]) for k in range(len(before) + 1)}
    width = next(k for k in range(len(after)) if math.prod(after[axis + 1 + k :]) in ends)
    return width if math.prod(after[axis + 1 : axis + 1 + width]) > 1 else 0


def _shape(operation: Operation) -> Shape:
    return operation.shapes if isinstance(operation.shapes, tuple) else ()


def _merged(view: Operation, axis: int, width: int) -> Operation:
    """The view that keeps the axis merged with those split off after it."""
    after = _shape(view)
    end = axis + 1 + width
    shape = (*after[:axis], math.prod(after[axis:end]), *after[end:])
    return Operation(
        view.name, aten.view.default, (view.args[0], list(shape)), {}, shape, view.layer
    )


def _cut_first(view: Operation, pick: Pick, width: int) -> list[Operation]:
    """The replacement of one pick: cut the merged axis, split it, apply the path."""
    name, after, axis = pick.operation.name, _shape(view), pick.axis
    rest = after[axis + 1 + width :]
    inner = math.prod(after[axis + 1 : axis + 1 + width])
    cut = (*after[:axis], len(pick.chosen) * inner, *rest)
    split = (*after[:axis], len(pick.chosen), *after[axis + 1 :])
    start, stop = pick.chosen.start * inner, pick.chosen.stop * inner
    steps = [
        (aten.slice.Tensor, (axis, start, stop), cut),
        (aten.view.default, (list(split),), split),
        *(_carried(op, _narrowed(op, view, pick)) for op in pick.path),
    ]
    last = _shape(pick.path[-1]) if pick.path else after
    length = len(pick.chosen)
    ending = (*last[: pick.place], length, *last[pick.place + 1 :])
    if pick.drops:
        ending = (*last[: pick.place], *last[pick.place + 1 :])
        steps.append((aten.select.int, (pick.place, 0), ending))
    else:
        steps.append((aten.alias.default, (), ending))
    return list(_chained(Ref(view.name), steps, name))


def _carried(op: Operation, shape: Shape) -> tuple[Any, tuple[Any, ...], Shape]:
    """A carrier applied to the picked range, with the shape of its result."""
    if op.target in VIEWS:
        return aten.view.default, (list(shape),), shape
    return op.target, op.args[1:], shape


def _narrowed(carrier: Operation, view: Operation, pick: Pick) -> Shape:
    """The shape of a carrier's result when it is applied to the picked range only."""
    axes, before = list(range(_ndim(view))), _shape(view)
    for operation in pick.path:
        axes, before = _moved(operation, axes, before), _shape(operation)
        if operation is carrier:
            break
    place = axes.index(pick.axis)
    shape = _shape(carrier)
    return (*shape[:place], len(pick.chosen), *shape[place + 1 :])


def _chained(
    start: Any, steps: Sequence[tuple[Any, tuple[Any, ...], Shape]], name: str
) -> Iterator[Operation]:
    """A chain of operations, the last of which has the given name."""
    value = start
    for k, (target, arguments, shape) in enumerate(steps):
        own = name if k == len(steps) - 1 else f"{name}.{k}"
        yield Operation(own, target, (value, *arguments), {}, shape)
        value = Ref(own)
