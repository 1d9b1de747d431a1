"""Axes along which a value is uniform: all entries are equal, as for zeros or an expanded tensor.

Permuting such an axis changes nothing, so it ties nothing: each operation that reads the value gets
new atoms for it. Which results are uniform follows from the rules being sound: if an atom of a
result is free and no input has it, then it may be permuted while the inputs are left as they are,
so the result does not change either.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from symport.symmetry._terms import Term, atoms, factors, product, resolve
from symport.symmetry.axes._registry import Axes, Value


def copied(value: Value) -> Value:
    """The same value, with new atoms for those along which it is uniform."""
    if not value.uniform_along:
        return value
    copies = {atom: Term(atom.size) for atom in value.uniform_along}
    axes = tuple(_renewed(term, copies) for term in value.axes)
    return replace(value, axes=axes, uniform_along=frozenset(copies.values()))


def laid_out(values: Iterable[Value]) -> list[Axes]:
    """The axes of values in which copies lie beside units in one axis, with the copies split off.

    The copies may be tied to an axis that the value has as well. Then the units beside them are not
    nested in the copies but in that axis, so the operation sees the copies as a separate axis.
    """
    return [axes for value in values if len(axes := tuple(_laid_out(value))) > len(value.axes)]


def _laid_out(value: Value) -> Iterator[Term]:
    for term in value.axes:
        found = factors(term)
        yield product(factor for factor in found if factor not in value.uniform_along)
        yield from (factor for factor in found if factor in value.uniform_along)


def distinct_atoms(values: Iterable[Value]) -> list[Term]:
    """The atoms along which some value is not uniform."""
    return [atom for value in values for atom in _distinct_atoms(value)]


def uniform_atoms(axes: Axes, known: Collection[Term]) -> frozenset[Term]:
    """The atoms along which a result is uniform.

    Args:
        axes: Of the result, as its rule returned them.
        known: The `distinct_atoms` of the inputs before the rule tied them.
    """
    found = {atom for term in known for atom in atoms(term)}
    free = {atom for term in axes for atom in atoms(term) if atom.reason is None}
    return frozenset(free - found)


def _distinct_atoms(value: Value) -> Iterator[Term]:
    for term in value.axes:
        yield from (atom for atom in atoms(term) if atom not in value.uniform_along)
    if value.points is not None:
        yield value.points


def _renewed(term: Term, copies: Mapping[Term, Term]) -> Term:
    term = resolve(term)
    if term.form == "atom":
        return copies.get(term, term)
    return Term(term.size, term.form, tuple(_renewed(child, copies) for child in term.children))
