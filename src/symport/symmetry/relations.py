"""Relate the axes of every value of a graph, one operation at a time, by registered rules.

A rule ties axes of an operation's inputs to each other and says what the axes of its result
are. It is sound if permuting the inputs along their terms permutes the result along its own.
Where an operation treats one axis on its own (a sum over units, a softmax), `alone` records
which axes it sees together, so that units are only nested in what they always come with.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch._ops import OpOverload

from symport.errors import DiscoveryError
from symport.symmetry.terms import Term, pin, product, split, tie, total
from symport.symmetry.trace import Graph, Operation, Ref, Shape, Source

Axes: TypeAlias = tuple[Term, ...]
Result: TypeAlias = Axes | list[Axes]


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: one term per axis.

    Attributes:
        name: What made it, for messages.
        uniform: All its entries are equal, whatever the weights are (zeros, ones).
    """

    name: str
    axes: Axes
    uniform: bool = False

    @property
    def shape(self) -> Shape:
        """Its shape."""
        return tuple(term.size for term in self.axes)


@dataclass(frozen=True)
class Call:
    """An operation as its rule sees it.

    Attributes:
        name: Of the result.
        op: The operation.
        arguments: By name, defaults filled in, tensors as `Value`s.
        shapes: Shape of each result; one entry unless the operation returns several.
    """

    name: str
    op: Callable[..., Any]
    arguments: Mapping[str, Any]
    shapes: Sequence[Shape | None]

    def __getitem__(self, name: str) -> Any:
        """An argument by its name in the operation's schema."""
        return self.arguments[name]

    @property
    def shape(self) -> Shape:
        """Shape of the (first) result."""
        return self.shapes[0] or ()

    @property
    def tensors(self) -> list[Value]:
        """All tensors among the arguments, in order, those in lists too."""
        return list(_values(self.arguments.values()))


@dataclass
class Relations:
    """What is known about the axes of a graph so far.

    Attributes:
        values: Every value by name; a list for an operation with several results.
        together: Sets of axes that an operation sees together, beyond those of the values.
    """

    values: dict[str, Value | list[Value | None] | None] = field(
        default_factory=dict[str, "Value | list[Value | None] | None"]
    )
    together: list[Axes] = field(default_factory=list[Axes])

    def tie(self, a: Term, b: Term) -> None:
        """The two axes are permuted alike."""
        tie(a, b)

    def pin(self, terms: Iterable[Term], reason: str) -> None:
        """These axes stay."""
        for term in terms:
            pin(term, reason)

    def alone(self, *terms: Term) -> None:
        """The operation sees these axes together, without the others."""
        self.together.append(terms)

    def contract(self, tensors: Sequence[Mapping[str, Term]], result: Iterable[str]) -> Axes:
        """Relate axes as einsum does.

        Args:
            tensors: For each input, its axes by letter; axes of one letter are tied. An axis of
                length 1 is broadcast.
            result: Letters of the result.

        Returns:
            The axes of the result.
        """
        present = [{k: t for k, t in axes.items() if t.size != 1} for axes in tensors]
        found: dict[str, Term] = {}
        for axes in present:
            for letter, term in axes.items():
                tie(found.setdefault(letter, term), term)
        result = list(result)
        sets = [*(set(axes) for axes in present), {letter for letter in result if letter in found}]
        for letter in found:
            companions = set.intersection(*(s for s in sets if letter in s))
            self.alone(*(found[k] for k in found if k in companions))
        return tuple(found.get(letter, Term(1)) for letter in result)


Rule: TypeAlias = Callable[[Relations, Call], Result]
_RULES: dict[Any, Rule] = {}


def register_rule(op: Callable[..., Any], rule: Rule) -> None:
    """Teach `discover` an operation.

    Args:
        op: A torch operator such as `torch.ops.mylib.scale`, or one overload of it.
        rule: Takes the relations so far and the call; ties the axes that must be permuted alike
            and returns the axes of the result, a tuple of terms; a list of such tuples if the
            operation has several results. Axes that must stay are passed to `relations.pin`.

    Example:
        >>> def scale(relations, call):
        ...     x, gain = call["x"], call["gain"]
        ...     relations.tie(x.axes[-1], gain.axes[0])
        ...     return x.axes
        >>> register_rule(torch.ops.aten.sin, scale)  # doctest: +SKIP
    """
    _RULES[op] = rule


def rule_for(*ops: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Decorate the rule of some operations."""

    def register(rule: Rule) -> Rule:
        for op in ops:
            register_rule(op, rule)
        return rule

    return register


def pinned(shape: Iterable[int], reason: str) -> Axes:
    """New axes that stay."""
    return tuple(Term(size, reason=reason) for size in shape)


def fresh(shape: Iterable[int]) -> Axes:
    """New axes that are free."""
    return tuple(Term(size) for size in shape)


def relate(graph: Graph) -> Relations:
    """Apply the rule of every operation; inputs and outputs stay.

    Raises:
        DiscoveryError: A rule breaks its contract.
    """
    relations = Relations()
    statistics = running_statistics(graph)
    for name, source in graph.sources.items():
        relations.values[name] = _source_value(name, source, statistics)
    for operation in graph.operations:
        _apply(relations, operation)
    for name in graph.outputs:
        for value in _values([relations.values[name]]):
            relations.pin(value.axes, "output axis (classes, vocabulary, positions)")
    return relations


def running_statistics(graph: Graph) -> frozenset[str]:
    """Buffers that serve as running means and variances only, by state-dict name."""
    buffers = {n: s.target for n, s in graph.sources.items() if s.kind == "buffer"}
    moving: set[str] = set()
    other = {name for name in graph.outputs if name in buffers}
    for operation in graph.operations:
        arguments = bind(operation.target, operation.args, operation.kwargs)
        for key, argument in arguments.items():
            used = {ref.name for ref in _refs([argument])} & buffers.keys()
            (moving if key in ("running_mean", "running_var") else other).update(used)
    return frozenset(buffers[name] for name in moving - other)


def bind(op: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Name the arguments of an operation, with defaults filled in."""
    if not isinstance(op, OpOverload):
        return {**{str(k): arg for k, arg in enumerate(args)}, **kwargs}
    result: dict[str, Any] = {}
    for k, argument in enumerate(op._schema.arguments):
        if k < len(args):
            result[argument.name] = args[k]
        elif argument.name in kwargs:
            result[argument.name] = kwargs[argument.name]
        else:
            result[argument.name] = argument.default_value
    return result


def _source_value(name: str, source: Source, statistics: frozenset[str]) -> Value | None:
    if source.shape is None:
        return None
    reasons = {
        "input": "input axis",
        "buffer": f"indexed by the buffer {source.target}",
        "constant": "indexed by a constant",
    }
    if source.kind == "weight" or source.target in statistics:
        return Value(name, fresh(source.shape))
    return Value(name, pinned(source.shape, reasons[source.kind]))


def _apply(relations: Relations, operation: Operation) -> None:
    if operation.target is operator.getitem:
        container = relations.values[operation.args[0].name]
        relations.values[operation.name] = cast("list[Any]", container)[operation.args[1]]
        return
    several = isinstance(operation.shapes, list)
    shapes = cast("list[Shape | None]", operation.shapes if several else [operation.shapes])
    arguments = bind(operation.target, operation.args, operation.kwargs)
    known = {name: _lookup(relations, argument) for name, argument in arguments.items()}
    call = Call(operation.name, operation.target, known, shapes)
    results = _results(_rule(operation.target)(relations, call), call)
    uniform = _uniform(call)
    values = [
        None if axes is None else Value(operation.name, axes, uniform) for axes in results
    ]
    relations.values[operation.name] = values if several else values[0]


def _results(result: Result, call: Call) -> list[Axes | None]:
    axes = result if isinstance(result, list) else [result]
    if len(axes) != len(call.shapes):
        raise DiscoveryError(
            f"the rule for {call.op} describes {len(axes)} results, there are {len(call.shapes)}"
        )
    checked: list[Axes | None] = []
    for terms, shape in zip(axes, call.shapes, strict=True):
        if shape is not None and tuple(term.size for term in terms) != shape:
            found = tuple(term.size for term in terms)
            raise DiscoveryError(f"the rule for {call.op} gives the shape {found}, not {shape}")
        checked.append(None if shape is None else terms)
    return checked


def _rule(op: Callable[..., Any]) -> Rule:
    packet = getattr(op, "overloadpacket", None)
    if found := _RULES.get(op) or _RULES.get(packet):
        return found
    tags: Sequence[torch.Tag] = getattr(op, "tags", ())
    random = torch.Tag.nondeterministic_seeded in tags
    if torch.Tag.pointwise in tags and not random:
        return pointwise
    return unknown


def pointwise(relations: Relations, call: Call) -> Result:
    """Entry by entry, with broadcasting: axes at the same place are permuted alike."""
    axes: list[Term] = []
    for place in range(-len(call.shape), 0):
        met = [v.axes[place] for v in call.tensors if len(v.axes) >= -place]
        wide = [term for term in met if term.size != 1] or met[:1] or [Term(1)]
        for term in wide[1:]:
            tie(wide[0], term)
        axes.append(wide[0])
    return tuple(axes)


def unknown(relations: Relations, call: Call) -> Result:
    """Every axis that the operation touches stays."""
    reason = f"no rule for {call.op}"
    for value in call.tensors:
        relations.pin(value.axes, reason)
    return [pinned(shape or (), reason) for shape in call.shapes]


def _uniform(call: Call) -> bool:
    return call.op in UNIFORM and not isinstance(call.arguments.get("fill_value"), Value)


aten = torch.ops.aten
UNIFORM = {
    aten.full.default,
    aten.full_like.default,
    aten.zeros.default,
    aten.zeros_like.default,
    aten.ones.default,
    aten.ones_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.empty.memory_format,
}


def _lookup(relations: Relations, argument: Any) -> Any:
    if isinstance(argument, Ref):
        return relations.values[argument.name]
    if isinstance(argument, (list, tuple)):
        return [_lookup(relations, item) for item in cast("Sequence[Any]", argument)]
    return argument


def _values(items: Iterable[Any]) -> Iterable[Value]:
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _values(cast("Sequence[Any]", item))


def _refs(items: Iterable[Any]) -> Iterable[Ref]:
    for item in items:
        if isinstance(item, Ref):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _refs(cast("Sequence[Any]", item))


__all__ = [
    "Axes",
    "Call",
    "Relations",
    "Value",
    "fresh",
    "pinned",
    "product",
    "register_rule",
    "relate",
    "rule_for",
    "split",
    "total",
]
