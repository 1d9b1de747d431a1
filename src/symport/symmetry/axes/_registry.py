"""One operation as its rule sees it, and the registry of rules.

A rule ties axes of an operation's inputs to each other and returns the axes of its result. It is
sound if permuting the inputs along their terms permutes the result along its own. Where an
operation treats one axis on its own (a sum over units, a softmax), `Call.together` records the
axes that it still sees together, so that units are nested only in axes that always accompany them.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch

from symport.symmetry._terms import Term, atoms, fix, tie
from symport.symmetry.axes._entries import UNKNOWN, Entries
from symport.symmetry.graph import Shape

Axes: TypeAlias = tuple[Term, ...]
Result: TypeAlias = Axes | list[Axes]


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: one term for each axis.

    Attributes:
        name: Of the operation or source that it comes from, for messages.
        axes: One term for each axis.
        uniform_along: Atoms along which all entries are equal, whatever the weights are.
        points: For places that were found along an axis (a top-k, an argmax), that axis: they
            change with its order.
        origin: The operation that found the places.
        entries: What is known about the entries.

    Example:
        >>> Value("x", (Term(2), Term(3))).shape
        (2, 3)
    """

    name: str
    axes: Axes
    uniform_along: frozenset[Term] = frozenset()
    points: Term | None = None
    origin: str = ""
    entries: Entries = UNKNOWN

    @property
    def shape(self) -> Shape:
        """The sizes of the axes."""
        return tuple(term.size for term in self.axes)

    @property
    def uniform(self) -> bool:
        """Whether all its entries are equal."""
        found = [atom for term in self.axes for atom in atoms(term)]
        is_unit_matrix = len(set(found)) < len(found)
        return self.uniform_along.issuperset(found) and not is_unit_matrix


@dataclass(frozen=True)
class Belonging:
    """Positions each of which belongs to one position of another axis, as tokens to an expert.

    Attributes:
        origin: The operation that assigned them.
        rows: The axes whose joint positions are assigned.
        axis: The axis that they are assigned to.
        units: The axes that this concerns, those of the tensor that was looked up; None for all.
    """

    origin: str
    rows: Axes
    axis: Term
    units: Axes | None


@dataclass
class Notes:
    """What rules record besides ties.

    Attributes:
        together: Sets of axes that an operation sees together, besides those of each value.
        picked: Results that are read, of operations with several: name and number.
        masks: Values whose entries are true or false.
        taken: For a value and an axis of it, the ranges that each slicing operation takes.
        found: Results that hold places along an axis, with that axis.
        followed: Values whose places an operation looks up.
        rows: Axes each of whose positions belongs to one position of another axis.
    """

    together: list[Axes] = field(default_factory=list[Axes])
    picked: frozenset[tuple[str, int]] = frozenset()
    masks: frozenset[str] = frozenset()
    taken: dict[tuple[str, int], list[list[range]]] = field(
        default_factory=dict[tuple[str, int], list[list[range]]]
    )
    found: dict[tuple[str, int], Term] = field(default_factory=dict[tuple[str, int], Term])
    followed: set[str] = field(default_factory=set[str])
    rows: list["Belonging"] = field(default_factory=list["Belonging"])

    def blank(self) -> "Notes":
        """Empty notes for one rule, which are discarded if the rule fails."""
        return Notes(picked=self.picked, masks=self.masks)

    def clear(self) -> None:
        """Forget what was noted."""
        for noted in (self.together, self.taken, self.found, self.followed, self.rows):
            noted.clear()

    def add(self, other: "Notes") -> None:
        """Add the notes of one rule."""
        self.together += other.together
        for key, ranges in other.taken.items():
            self.taken.setdefault(key, []).extend(ranges)
        self.found.update(other.found)
        self.followed.update(other.followed)
        self.rows += other.rows


@dataclass(frozen=True)
class Call:
    """An operation as its rule sees it.

    Attributes:
        name: Of the result.
        op: The operation.
        arguments: By name, with defaults filled in and tensors as `Value`s.
        shapes: Shape of each result; one entry unless the operation returns several.
        notes: What the rule records.

    Example:
        >>> x, gain = Value("x", (Term(2), Term(3))), Value("gain", (Term(3),))
        >>> call = Call("y", torch.mul, {"x": x, "gain": gain}, [(2, 3)])
        >>> tie(call["x"].axes[-1], call["gain"].axes[0])
        >>> call.fix(call["x"].axes[:1], "rows are read in order")
        >>> [term.reason for term in x.axes]
        ['rows are read in order', None]
    """

    name: str
    op: Callable[..., Any]
    arguments: Mapping[str, Any]
    shapes: Sequence[Shape | None]
    notes: Notes = field(default_factory=Notes)

    def __getitem__(self, name: str) -> Any:
        """An argument by its name in the operation's schema."""
        return self.arguments[name]

    @property
    def shape(self) -> Shape:
        """Shape of the (first) result."""
        return self.shapes[0] or ()

    @property
    def short(self) -> str:
        """The name of the operation, without its namespace if it is one of torch's own."""
        return str(self.op).removeprefix("aten.").partition(".")[0]

    @property
    def tensors(self) -> list[Value]:
        """All tensors among the arguments, in order, including those in lists."""
        return list(values_in(self.arguments.values()))

    def fix(self, terms: Iterable[Term], reason: str) -> None:
        """Fix axes, with the reason: their units may not move."""
        for term in terms:
            fix(term, reason)

    def mix(self, value: Value, dims: Iterable[int], reason: str) -> None:
        """Fix axes along which positions are combined; the others are seen without them."""
        gone = {dim % len(value.axes) for dim in dims}
        self.fix((value.axes[dim] for dim in gone), reason)
        self.together(*(term for dim, term in enumerate(value.axes) if dim not in gone))

    def together(self, *terms: Term) -> None:
        """Note that the operation sees these axes together, without the others."""
        self.notes.together.append(terms)

    def uses(self, place: int) -> bool:
        """Whether the result with this number, of an operation with several, is read."""
        return (self.name, place) in self.notes.picked

    def is_mask(self, value: Value) -> bool:
        """Whether the entries of a value are true or false."""
        return value.name in self.notes.masks

    def takes(self, value: Value, dim: int, ranges: Iterable[range]) -> None:
        """Note which ranges of an axis the operation reads; positions that none reads are fixed."""
        self.notes.taken.setdefault((value.name, dim), []).append(list(ranges))

    def finds(self, place: int, axis: Term) -> None:
        """Note that the result with this number holds places along an axis."""
        self.notes.found[self.name, place] = axis

    def follow(
        self,
        index: Value,
        axis: Term,
        beside: Iterable[Term] = (),
        units: Axes | None = None,
    ) -> bool:
        """Look up an axis at the places in `index`; False if they are not places along it.

        Args:
            index: The places, of any shape.
            axis: The axis that is looked up.
            beside: Axes that the places have in common with the tensor that is looked up. Without
                any, each place is looked up for all other axes at once, so the axis cannot be
                nested in them.
            units: All other axes of the tensor that is looked up.
        """
        if index.points is None or index.points.size != axis.size:
            return False
        tie(index.points, axis)
        self.notes.followed.add(f"{self.name} {index.name}")
        self.belong(index.origin, index.axes, axis, units)
        self.together(axis, *beside)
        return True

    def belong(self, origin: str, rows: Axes, axis: Term, units: Axes | None = None) -> None:
        """Note that each joint position of `rows` belongs to one position of another axis."""
        self.notes.rows.append(Belonging(origin, rows, axis, units))

    def contract(self, tensors: Sequence[Mapping[str, Term]], result: Iterable[str]) -> Axes:
        """Relate axes as einsum does.

        Args:
            tensors: For each input, its axes by letter; axes with the same letter are tied. An axis
                of length 1 is broadcast.
            result: The letters of the result.

        Returns:
            The axes of the result.

        Example:
            >>> x, weight = (Term(2), Term(3)), (Term(3), Term(5))
            >>> call = Call("y", torch.matmul, {}, [(2, 5)])
            >>> axes = call.contract([dict(zip("bi", x)), dict(zip("io", weight))], "bo")
            >>> [term.size for term in axes]
            [2, 5]
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
            self.together(*(found[k] for k in found if k in companions))
        return tuple(found.get(letter, Term(1)) for letter in result)


Rule: TypeAlias = Callable[[Call], Result]
RULES: dict[str, Rule] = {}


def register_rule(op: Callable[..., Any] | str, rule: Rule) -> None:
    """Register the rule that `discover` applies to an operation.

    Args:
        op: A torch operator such as `torch.ops.mylib.scale`, one overload of it, or its name,
            `"mylib.scale"`.
        rule: Takes the call, ties the axes that one permutation must move, and returns the axes of
            the result: a tuple of terms, or a list of such tuples if there are several results.
            `call.fix` fixes axes; `call.contract` relates axes as einsum does.

    Example:
        >>> def scale(call):
        ...     x, gain = call["x"], call["gain"]
        ...     tie(x.axes[-1], gain.axes[0])
        ...     return x.axes
        >>> register_rule("mylib.scale", scale)
    """
    RULES[str(op)] = rule


def rule_of(op: Callable[..., Any]) -> Rule:
    """The registered rule; else `pointwise` for what torch tags so, and `unknown` for the rest."""
    overload = str(op)
    if found := RULES.get(overload) or RULES.get(overload.rpartition(".")[0]):
        return found
    tags: Sequence[torch.Tag] = getattr(op, "tags", ())
    random = torch.Tag.nondeterministic_seeded in tags
    return pointwise if torch.Tag.pointwise in tags and not random else unknown


def has_rule(op: Callable[..., Any]) -> bool:
    """Whether an operation has a rule, or picks one of several results."""
    return op is operator.getitem or rule_of(op) is not unknown


def rule_for(*names: str) -> Callable[[Rule], Rule]:
    """Decorator of the rule for operations, of torch's own if a name has no namespace."""

    def register(rule: Rule) -> Rule:
        for name in names:
            register_rule(name if "." in name else f"aten.{name}", rule)
        return rule

    return register


def fixed(shape: Iterable[int], reason: str) -> Axes:
    """New fixed axes of these sizes."""
    return tuple(Term(size, reason=reason) for size in shape)


def fresh(shape: Iterable[int]) -> Axes:
    """New free axes of these sizes."""
    return tuple(Term(size) for size in shape)


def pointwise(call: Call) -> Result:
    """Entry by entry, with broadcasting: axes at the same place are tied."""
    return broadcast(call.tensors)


def broadcast(values: Sequence[Value]) -> Axes:
    """The axes of tensors that are combined entry by entry; those at the same place are tied."""
    axes: list[Term] = []
    for place in range(-max((len(v.axes) for v in values), default=0), 0):
        met = [v.axes[place] for v in values if len(v.axes) >= -place]
        wide = [term for term in met if term.size != 1] or met[:1] or [Term(1)]
        for term in wide[1:]:
            tie(wide[0], term)
        axes.append(wide[0])
    return tuple(axes)


def unknown(call: Call) -> Result:
    """Fix every axis of an operation that has no rule."""
    reason = f"no rule for {call.op}"
    for value in call.tensors:
        call.fix(value.axes, reason)
    return [fixed(shape or (), reason) for shape in call.shapes]


def values_in(items: Iterable[Any]) -> Iterator[Value]:
    """Every tensor in nested lists."""
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from values_in(cast("Sequence[Any]", item))
