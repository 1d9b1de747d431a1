"""Relate the axes of every value of a graph, one operation at a time, by the registered rules."""

import itertools
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import torch
from torch._ops import OpOverload

from symport.errors import DiscoveryError
from symport.symmetry._terms import Term, atoms, fix, split, tie
from symport.symmetry.axes import (
    Axes,
    Call,
    Notes,
    Result,
    Tie,
    Value,
    copied,
    distinct_atoms,
    fixed,
    free_units,
    fresh,
    laid_out,
    new_ties,
    result_entries,
    rule_of,
    source_entries,
    uniform_atoms,
    values_in,
    why_undecided,
)
from symport.symmetry.graph import Graph, Operation, Ref, Shape, Source, shared, tie_shared

aten = torch.ops.aten
UNUSED = "not used with these example inputs"
Entry: TypeAlias = Value | list[Value | None] | None
CARRIERS = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.permute.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.expand.default,
    aten.clone.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.slice.Tensor,
    aten.select.int,
}
# Operations whose result consists of the entries of several tensors, each as a whole.
JOINS: dict[Callable[..., Any], str] = {
    aten.cat.default: "tensors",
    aten.concat.default: "tensors",
    aten.concatenate.default: "tensors",
    aten.hstack.default: "tensors",
    aten.vstack.default: "tensors",
    aten.stack.default: "tensors",
    aten.where.self: "self other",
}


@dataclass
class Relations:
    """What is known about the axes of a graph.

    Attributes:
        values: Every value by name; a list for an operation with several results.
        unread: Axes of parameters and buffers that share memory with others but are not read.
        notes: What the rules recorded.
        ties: The ties that operations made between computed values.
    """

    values: dict[str, Entry] = field(default_factory=dict[str, Entry])
    unread: dict[str, Axes] = field(default_factory=dict[str, Axes])
    notes: Notes = field(default_factory=Notes)
    ties: list[Tie] = field(default_factory=list[Tie])


def relate(graph: Graph, statistics: frozenset[str]) -> Relations:
    """Apply the rule of every operation; axes of inputs and outputs are fixed.

    Args:
        graph: The traced model.
        statistics: Names of the buffers that move with the units; all others are constants.

    Raises:
        DiscoveryError: A rule breaks its contract.
    """
    relations = Relations(notes=Notes(picked=_picked(graph), masks=graph.masks))
    for place, (name, source) in enumerate(graph.sources.items()):
        known = source_entries(name, place, statistics, graph)
        value = _source_value(name, source, statistics, graph)
        relations.values[name] = value and replace(value, entries=known)
    _tie_memory(relations, graph)
    computed = _computed(graph)
    for operation in graph.operations:
        _apply(relations, operation, computed)
    for name, source in graph.updates.items():
        _tie_update(relations, name, source)
    for name in graph.outputs:
        for value in values_in([relations.values[name]]):
            _fix_all(value.axes, "output axis (classes, vocabulary, positions)")
            if value.points is not None:
                fix(value.points, "its positions are an output")
    _fix_gone(relations, _readers(graph), computed)
    _fix_unread(relations)
    return relations


def _tie_update(relations: Relations, name: str, source: str) -> None:
    """Tie a value to the tensor that the model overwrites with it, since it may run repeatedly."""
    new, old = relations.values[name], relations.values[source]
    if isinstance(new, Value) and isinstance(old, Value):
        for a, b in zip(new.axes, old.axes, strict=True):
            tie(a, b)
        if new.points is not None:
            fix(new.points, "its positions are stored")


def running_statistics(graph: Graph) -> frozenset[str]:
    """Buffers that are used only as running means and variances, by state-dict name."""
    buffers = {n: s.target for n, s in graph.sources.items() if s.kind == "buffer"}
    moving: set[str] = set()
    other = {name for name in graph.ends if name in buffers}
    for operation in graph.operations:
        arguments = bind(operation.target, operation.args, operation.kwargs)
        for key, argument in arguments.items():
            used = {ref.name for ref in _refs([argument])} & buffers.keys()
            (moving if key in ("running_mean", "running_var") else other).update(used)
    return frozenset(graph.aliases.get(buffers[name], buffers[name]) for name in moving - other)


def bind(op: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by name, with defaults filled in."""
    if not isinstance(op, OpOverload):
        return {**{str(k): arg for k, arg in enumerate(args)}, **kwargs}
    result: dict[str, Any] = {}
    for k, argument in enumerate(cast("Any", op)._schema.arguments):
        if k < len(args):
            result[argument.name] = args[k]
        elif argument.name in kwargs:
            result[argument.name] = kwargs[argument.name]
        else:
            result[argument.name] = argument.default_value
    return result


def _readers(graph: Graph) -> dict[str, int]:
    counts = Counter(graph.ends)
    for operation in graph.operations:
        counts.update(ref.name for ref in _refs([operation.args, *operation.kwargs.values()]))
    return counts


def _picked(graph: Graph) -> frozenset[tuple[str, int]]:
    return frozenset(
        (operation.args[0].name, operation.args[1])
        for operation in graph.operations
        if operation.target is operator.getitem
    )


def _fix_all(terms: Iterable[Term], reason: str) -> None:
    for term in terms:
        fix(term, reason)


def _computed(graph: Graph) -> set[str]:
    """Values that depend on the example."""
    found = {name for name, source in graph.sources.items() if source.kind == "input"}
    for operation in graph.operations:
        arguments = [operation.args, *operation.kwargs.values()]
        if any(ref.name in found for ref in _refs(arguments)):
            found.add(operation.name)
    return found


def _fix_unread(relations: Relations) -> None:
    """Fix what no operation reads of a tensor that shares its memory with one that is read."""
    values = values_in(relations.values.values())
    read = {atom for value in values for term in value.axes for atom in atoms(term)}
    for term in (term for axes in relations.unread.values() for term in axes):
        for atom in atoms(term):
            if atom not in read:
                fix(atom, UNUSED)


def _fix_gone(relations: Relations, readers: Mapping[str, int], computed: set[str]) -> None:
    """Fix the positions of a table that slices leave out and nothing reads."""
    for (name, dim), taken in relations.notes.taken.items():
        value = relations.values[name]
        whole = len(taken) < readers[name] or name in computed
        if isinstance(value, Value) and not whole:
            _fix_gaps(value.axes[dim], [r for ranges in taken for r in ranges])


def _fix_gaps(term: Term, ranges: Sequence[range]) -> None:
    """Fix the parts of an axis outside all ranges."""
    cuts = sorted({0, term.size, *(r.start for r in ranges), *(r.stop for r in ranges)})
    sizes = [b - a for a, b in itertools.pairwise(cuts)]
    for start, part in zip(cuts, split(term, sizes), strict=False):
        if not any(start in r for r in ranges):
            fix(part, f"cut away: {UNUSED}")


def _source_value(
    name: str, source: Source, statistics: frozenset[str], graph: Graph
) -> Value | None:
    if source.shape is None:
        return None
    reasons = {
        "input": "input axis",
        "buffer": f"indexed by the buffer {source.target}; name it in `moving` if it is learned",
        "constant": "indexed by a constant",
    }
    if 0 in source.shape:
        return Value(name, fixed(source.shape, "no entries"))
    main = graph.aliases.get(source.target, source.target)
    if source.kind == "weight" or main in statistics:
        if main in graph.fixed:
            return Value(name, fixed(source.shape, f"{source.target}: {graph.fixed[main]}"))
        return Value(name, fresh(source.shape))
    return Value(name, fixed(source.shape, reasons[source.kind]))


def _tie_memory(relations: Relations, graph: Graph) -> None:
    """Tie tensors that share memory, including those that the model does not read."""
    axes: dict[str, Axes] = {}
    for name, source in graph.sources.items():
        target = graph.aliases.get(source.target, source.target)
        value = relations.values[name]
        if source.kind != "input" and isinstance(value, Value):
            for a, b in zip(axes.setdefault(target, value.axes), value.axes, strict=True):
                tie(a, b)
    related = {name for pair in shared(graph.places) for name in pair}
    for name in related - axes.keys():
        relations.unread[name] = axes[name] = fresh(graph.places[name].shape)
    places = {name: place for name, place in graph.places.items() if name in axes}
    relations.notes.together += tie_shared(places, axes)


def _apply(relations: Relations, operation: Operation, computed: Collection[str]) -> None:
    if operation.target is operator.getitem:
        container = cast("list[Value | None]", relations.values[operation.args[0].name])
        chosen = container[operation.args[1]]
        relations.values[operation.name] = chosen and replace(chosen, name=operation.name)
        return
    several = isinstance(operation.shapes, list)
    shapes = cast("list[Shape | None]", operation.shapes if several else [operation.shapes])
    arguments = bind(operation.target, operation.args, operation.kwargs)
    known = {name: _lookup(relations, argument) for name, argument in arguments.items()}
    call = Call(operation.name, operation.target, known, shapes, relations.notes.blank())
    distinct = distinct_atoms(call.tensors)
    before, laid = free_units(call, computed), laid_out(call.tensors)
    results = _ruled(call)
    relations.ties += new_ties(before, call, operation.layer)
    _note_moved(call, results)
    relations.notes.add(call.notes)
    relations.notes.together += laid
    values = [
        None if axes is None else _described(call, place, axes, distinct)
        for place, axes in enumerate(results)
    ]
    _fix_numbers(call)
    relations.values[operation.name] = values if several else values[0]


def _note_moved(call: Call, results: Sequence[Axes | None]) -> None:
    """Note that new fixed axes of a result are not aligned with those of the inputs.

    A new fixed axis may later be tied to one that an input has, but its positions may be in another
    order (after a cut across interleaved units), so no other axis of the result is nested in it.
    """
    known = {id(atom) for value in call.tensors for term in value.axes for atom in atoms(term)}
    for axes in results if known else ():
        new = [any(a.reason and id(a) not in known for a in atoms(term)) for term in axes or ()]
        if axes and any(new):
            call.together(*(term for term, moved in zip(axes, new, strict=True) if not moved))


def _ruled(call: Call) -> list[Axes | None]:
    """The axes that the rule returns; if it fails on an unusual call, everything is fixed.

    That is sound whatever the operation does: its inputs do not move, so its results do not.
    """
    try:
        return _results(rule_of(call.op)(call), call)
    except Exception as error:  # rules are given by users as well
        cause = error if isinstance(error, DiscoveryError) else repr(error)
        reason = f"the rule for {call.op} failed: {cause}"
    warnings.warn(f"{reason}; the axes it touches are fixed", stacklevel=2)
    for value in call.tensors:
        _fix_all(value.axes, reason)
        if value.points is not None:
            fix(value.points, reason)
    call.notes.clear()
    return [None if shape is None else fixed(shape, reason) for shape in call.shapes]


def _described(call: Call, place: int, axes: Axes, distinct: Sequence[Term]) -> Value:
    """A result, with what is known about its entries."""
    known = result_entries(call, axes, place)
    made = Value(call.name, axes, uniform_atoms(axes, distinct), entries=known)
    if (axis := call.notes.found.get((call.name, place))) is not None:
        _fix_all(uniform_atoms((axis,), distinct), "places among entries that are all equal")
        if (len(call.shapes) == 1 or call.uses(place)) and (reason := why_undecided(call, axis)):
            fix(axis, reason)
        return replace(made, points=axis, origin=call.name)
    if call.op in CARRIERS and call.tensors:
        carried = replace(call.tensors[0], name=call.name, axes=axes)
        return replace(carried, uniform_along=made.uniform_along, entries=known)
    if joined := _joined_places(call):
        for other in joined[1:]:
            tie(joined[0], other)
        return replace(made, points=joined[0], origin=call.name)
    return made


def _joined_places(call: Call) -> list[Term]:
    """The axes along which the tensors that an operation joins hold places; empty unless all do.

    Places along axes of one length are taken to be places along one axis.
    """
    keys = JOINS.get(call.op, "").split()
    points = [value.points for value in values_in(call[key] for key in keys)]
    found = [term for term in points if term is not None]
    same = len(found) == len(points) and len({term.size for term in found}) == 1
    return found if same else []


def _fix_numbers(call: Call) -> None:
    """Fix an axis if an operation uses places along it as numbers instead of looking them up."""
    joined = _joined_places(call)
    for value in () if joined else call.tensors:
        looked_up = f"{call.name} {value.name}" in call.notes.followed
        if value.points is not None and not looked_up and call.op not in CARRIERS:
            fix(value.points, f"its positions are used as numbers by {call.op}")


def _results(result: Result, call: Call) -> list[Axes | None]:
    axes = result if isinstance(result, list) else [result]
    if len(axes) != len(call.shapes):
        raise DiscoveryError(f"it describes {len(axes)} results, there are {len(call.shapes)}")
    checked: list[Axes | None] = []
    for terms, shape in zip(axes, call.shapes, strict=True):
        if shape is not None and tuple(term.size for term in terms) != shape:
            found = tuple(term.size for term in terms)
            raise DiscoveryError(f"it gives the shape {found}, not {shape}")
        checked.append(None if shape is None else terms)
    return checked


def _lookup(relations: Relations, argument: Any) -> Any:
    if isinstance(argument, Ref):
        value = relations.values[argument.name]
        return copied(value) if isinstance(value, Value) else value
    if isinstance(argument, (list, tuple)):
        return [_lookup(relations, item) for item in cast("Sequence[Any]", argument)]
    return argument


def _refs(items: Iterable[Any]) -> Iterator[Ref]:
    for item in items:
        if isinstance(item, Ref):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _refs(cast("Sequence[Any]", item))
