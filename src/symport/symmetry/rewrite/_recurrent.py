"""Split a stack of recurrent layers into its layers and directions, before axes are related.

torch runs all of them in one operation, which takes and returns the states of all in one tensor.
Split, each layer and direction has units of its own, unless something else ties them.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from symport.symmetry.graph import Graph, Operation, Ref, Shape

aten = torch.ops.aten
LAYERS = {aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input}


def unroll(graph: Graph) -> Graph:
    """Replace each stack of recurrent layers by single layers with one direction.

    At which end of a sequence a layer starts does not matter for its axes: time is fixed.
    """
    stacks = {op.name for op in graph.operations if op.target in LAYERS and _is_stack(op)}
    operations: list[Operation] = []
    for op in graph.operations:
        if op.name in stacks:
            operations += _layers(op)
        elif op.target is operator.getitem and op.args[0].name in stacks:
            result = Ref(f"{op.args[0].name}.{op.args[1]}")
            operations.append(replace(op, target=aten.alias.default, args=(result,)))
        else:
            operations.append(op)
    return replace(graph, operations=operations)


def _is_stack(op: Operation) -> bool:
    """Whether there are several layers or directions, and no random dropout between them."""
    *_, layers, dropout, train, both_ways, _ = op.args
    return (layers > 1 or both_ways) and not (train and dropout)


def _layers(op: Operation) -> Iterator[Operation]:
    """All layers, then the operations that join their states; results are `name.0` and so on."""
    below, _, params, *options = op.args
    _, layers, _, _, both_ways, _ = options
    directions = 2 if both_ways else 1
    count = len(params) // (layers * directions)
    whole = cast("Sequence[Shape]", op.shapes)
    for layer in range(layers):
        numbers = range(layer * directions, (layer + 1) * directions)
        for k in numbers:
            yield from _one(op, k, below, params[k * count : (k + 1) * count])
        results = [Ref(f"{op.name}.l{k}.0") for k in numbers]
        below = Ref(f"{op.name}.below{layer + 1}")
        yield replace(
            op, name=below.name, target=aten.cat.default, args=(results, 2), shapes=whole[0]
        )
    yield replace(
        op, name=f"{op.name}.0", target=aten.alias.default, args=(below,), shapes=whole[0]
    )
    for place, shape in enumerate(whole[1:], start=1):
        ends = [Ref(f"{op.name}.l{k}.end{place}") for k in range(layers * directions)]
        yield replace(
            op, name=f"{op.name}.{place}", target=aten.stack.default, args=(ends,), shapes=shape
        )


def _one(op: Operation, number: int, x: Ref, params: Sequence[Ref]) -> Iterator[Operation]:
    """One layer in one direction, with its part of the initial states."""
    name, given = f"{op.name}.l{number}", op.args[1]
    out, *ends = cast("Sequence[Shape]", op.shapes)
    several = isinstance(given, (list, tuple))
    starts = cast("Sequence[Ref]", given if several else [given])
    first = [Ref(f"{name}.start{k}") for k in range(len(starts))]
    for state, cut, shape in zip(starts, first, ends, strict=True):
        yield Operation(
            cut.name, aten.slice.Tensor, (state, 0, number, number + 1), {}, (1, *shape[1:])
        )
    width = ends[0][2]
    shapes: list[Any] = [(*out[:2], width), *((1, *shape[1:]) for shape in ends)]
    has_biases, batch_first = op.args[3], op.args[8]
    arguments = (has_biases, 1, 0.0, False, False, batch_first)
    yield replace(
        op, name=name, args=(x, first if several else first[0], params, *arguments), shapes=shapes
    )
    for k, shape in enumerate(shapes):
        yield Operation(f"{name}.{k}", operator.getitem, (Ref(name), k), {}, shape)
        if k:
            yield Operation(
                f"{name}.end{k}", aten.select.int, (Ref(f"{name}.{k}"), 0, 0), {}, shape[1:]
            )
