"""Axes along which all entries of a value are alike, as those of zeros or of an expanded tensor.

Such a value is the same whatever the order along them, so they tie nothing: each operation that
reads it gets atoms of its own there. Which results have such axes follows from the rules being
sound. If an atom of a result is free and no input has it, then it may be permuted while the inputs
stay as they are, and the result must stay as well.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from symport.symmetry._terms import Term, atoms, factors, product, resolve
from symport.symmetry.axes._registry import Axes, Value


def copied(value: Value) -> Value:
    """The same value, with new atoms for those along which its entries are alike."""
    if not value.alike:
        return value
    copies = {atom: Term(atom.size) for atom in value.alike}
    axes = tuple(_renewed(term, copies) for term in value.axes)
    return replace(value, axes=axes, alike=frozenset(copies.values()))


def laid_out(values: Iterable[Value]) -> list[Axes]:
    """The axes of values that have copies beside units in one axis, the copies on their own.

    Copies may turn out to be an axis that the value has already. What they lie beside is not
    nested in them but in that axis, so an operation sees them as one of their own.
    """
    return [axes for value in values if len(axes := tuple(_laid_out(value))) > len(value.axes)]


def _laid_out(value: Value) -> Iterator[Term]:
    for term in value.axes:
        found = factors(term)
        yield product(factor for factor in found if factor not in value.alike)
        yield from (factor for factor in found if factor in value.alike)


def told_apart(values: Iterable[Value]) -> list[Term]:
    """The atoms whose positions some value tells from each other."""
    return [atom for value in values for atom in _told_apart(value)]


def alike(axes: Axes, known: Collection[Term]) -> frozenset[Term]:
    """The atoms of a result along which its entries are alike.

    Args:
        axes: Of the result, as its rule gave them.
        known: What `told_apart` said of the inputs before the rule tied them.
    """
    found = {atom for term in known for atom in atoms(term)}
    free = {atom for term in axes for atom in atoms(term) if atom.reason is None}
    return frozenset(free - found)


def _told_apart(value: Value) -> Iterator[Term]:
    for term in value.axes:
        yield from (atom for atom in atoms(term) if atom not in value.alike)
    if value.points is not None:
        yield value.points


def _renewed(term: Term, copies: Mapping[Term, Term]) -> Term:
    term = resolve(term)
    if term.form == "atom":
        return copies.get(term, term)
    return Term(term.size, term.form, tuple(_renewed(child, copies) for child in term.children))
