"""Replace an index by a list of numbers in the code by slices, before axes are related.

`x[..., [-2]]` takes one slice and `x[:, [2, 0]]` a concatenation of two. The positions that any
other index takes are not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from symport.symmetry.graph import Graph, Operation, Ref, Shape
from symport.symmetry.rewrite._split_stacked import shapes_of

aten = torch.ops.aten
SAME = {
    aten.lift_fresh_copy.default,
    aten.detach_.default,
    aten.detach.default,
    aten.alias.default,
    aten.clone.default,
    aten._to_copy.default,
    aten.to.device,
    aten.to.dtype_layout,
}


def index_by_slices(graph: Graph) -> Graph:
    """Replace every index by a list of numbers along one axis by slices."""
    shapes = shapes_of(graph)
    numbers = {name: source.numbers for name, source in graph.sources.items() if source.numbers}
    operations: list[Operation] = []
    for op in graph.operations:
        source = op.args[0] if op.args else None
        if op.target in SAME and isinstance(source, Ref) and source.name in numbers:
            numbers[op.name] = numbers[source.name]
        found = _indexed(op, numbers, shapes)
        operations += [op] if found is None else _sliced(op, *found, shapes[op.args[0].name])
    return replace(graph, operations=operations)


def _indexed(
    op: Operation, numbers: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Shape]
) -> tuple[int, list[int]] | None:
    """The axis that an operation indexes by a list of numbers, and the positions it takes."""
    if op.target is aten.index_select.default:
        dim, places = op.args[1], [op.args[2]]
    elif op.target is aten.index.Tensor:
        places = cast("Sequence[Any]", op.args[1])
        dim = next(k for k, place in enumerate(places) if place is not None)
    else:
        return None
    chosen = [place for place in places if place is not None]
    known = numbers.get(chosen[0].name) if len(chosen) == 1 else None
    length = shapes[op.args[0].name][dim]
    if known is None or not all(-length <= number < length for number in known):
        return None
    return dim, [number % length for number in known]


def _sliced(op: Operation, dim: int, numbers: Sequence[int], shape: Shape) -> Iterator[Operation]:
    """A slice for each run of consecutive numbers, and their concatenation."""
    source, dim = op.args[0], dim % len(shape)
    runs = list(_runs(numbers))
    for k, run in enumerate(runs):
        name = op.name if len(runs) == 1 else f"{op.name}.run{k}"
        part = (*shape[:dim], len(run), *shape[dim + 1 :])
        arguments = (source, dim, run.start, run.stop)
        yield replace(op, name=name, target=aten.slice.Tensor, args=arguments, shapes=part)
    if len(runs) > 1:
        parts = [Ref(f"{op.name}.run{k}") for k in range(len(runs))]
        yield replace(op, target=aten.cat.default, args=(parts, dim))


def _runs(numbers: Sequence[int]) -> Iterator[range]:
    start = 0
    for k in range(1, len(numbers) + 1):
        if k == len(numbers) or numbers[k] != numbers[k - 1] + 1:
            yield range(numbers[start], numbers[k - 1] + 1)
            start = k
