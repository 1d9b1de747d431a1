"""Turn related axes into groups of units, nested in each other where that is possible.

Units `c` may be permuted independently inside every unit of `g` if they never occur without `g`:
then no operation combines the units inside one unit of `g` with those inside another. So each atom
depends on the atoms that accompany it in every value, weights and activations, and the dependencies
form trees of wreath products.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from symport.symmetry._propagate import Relations
from symport.symmetry._terms import Term, atoms, factors, parts, resolve
from symport.symmetry.axes import Axes, Value

Tensors: TypeAlias = Mapping[str, Axes]
Rows: TypeAlias = Sequence[tuple[frozenset[int], frozenset[int], frozenset[int] | None]]


@dataclass(frozen=True)
class Tree:
    """The nesting of atoms; an atom is known by its identity.

    Attributes:
        atoms: Those that become groups, in order of appearance in the weights.
        parents: The innermost atom that an atom is nested in.
        merged: Atoms that form one group with the atom to their left, which represents both.
    """

    atoms: Mapping[int, Term]
    parents: Mapping[int, int]
    merged: Mapping[int, int]

    def path(self, key: int) -> list[int]:
        """An atom and its ancestors, outermost first."""
        path = [key]
        while path[0] in self.parents:
            path.insert(0, self.parents[path[0]])
        return path

    def leader(self, key: int) -> int:
        """The atom that represents the group of an atom."""
        while key in self.merged:
            key = self.merged[key]
        return key

    def size(self, key: int) -> int:
        """The number of units of the group that an atom represents."""
        own = self.atoms[key].size
        return own * math.prod(self.size(k) for k, left in self.merged.items() if left == key)


def nest(tensors: Tensors, relations: Relations) -> Tree:
    """Find the groups of a network and their nesting.

    Args:
        tensors: The axes of every tensor of the state dict.
        relations: The terms of all values, and the notes of the rules.
    """
    order = _order(tensors)
    known = list(_once(tensors.values()))
    others = list(_once([*_values(relations), *relations.notes.together]))
    deps = _dependencies([(known, ()), (others, _rows(relations))], order)
    chains = _Chains(order, deps)
    needed = {k for key, a in order.items() if a.reason is None for k in (key, *chains.of(key))}
    groups = {key: atom for key, atom in order.items() if key in needed}
    parents = {key: chains.of(key)[-1] for key in groups if chains.of(key)}
    merged = {
        key: parent
        for key, parent in parents.items()
        if key in deps[parent] and {order[key].reason, order[parent].reason} == {None}
    }
    merged = _always_adjacent(tensors, merged)
    return Tree(groups, parents, merged)


class _Chains:
    """Chooses for each atom the longest chain of atoms to be nested in."""

    def __init__(self, order: Mapping[int, Term], deps: Mapping[int, set[int]]) -> None:
        self.order = order
        self.deps = deps
        self.place = {key: k for k, key in enumerate(order)}
        self.chains: dict[int, list[int]] = {}

    def of(self, key: int) -> list[int]:
        """All ancestors of an atom, outermost first."""
        if key not in self.chains:
            self.chains[key] = []
            chains = [[*self.of(g), g] for g in self.deps[key] if self._above(g, key)]
            usable = [c for c in chains if set(c) <= self.deps[key]]
            usable.sort(key=lambda c: [self.place[g] for g in c])
            self.chains[key] = max(usable, key=len, default=[])
        return self.chains[key]

    def _above(self, g: int, key: int) -> bool:
        """Whether g can be the parent; of two that depend on each other, the fixed or left one."""
        is_free, parent_is_free = self.order[key].reason is None, self.order[g].reason is None
        if is_free != parent_is_free:
            return is_free
        return key not in self.deps[g] or self.place[g] < self.place[key]


def _always_adjacent(tensors: Tensors, pairs: Mapping[int, int]) -> dict[int, int]:
    """The pairs (right, left) that are neighbours in a product wherever either occurs."""
    left_of: dict[int, set[int | None]] = {}
    right_of: dict[int, set[int | None]] = {}
    for axes in tensors.values():
        for run in (run for axis in axes for run in _runs(axis)):
            for a, b in itertools.pairwise([None, *run, None]):
                left_of.setdefault(b or 0, set()).add(a)
                right_of.setdefault(a or 0, set()).add(b)
    return {
        right: left
        for right, left in pairs.items()
        if left_of[right] == {left} and right_of[left] == {right}
    }


def _runs(term: Term) -> Iterator[list[int | None]]:
    """The factors of every product in an axis; None for one that is no atom."""
    term = resolve(term)
    if term.form == "sum":
        for part in parts(term):
            yield from _runs(part)
        return
    children = factors(term)
    yield [id(child) if child.form == "atom" else None for child in children]
    for child in children:
        if child.form == "sum":
            yield from _runs(child)


def _order(tensors: Tensors) -> dict[int, Term]:
    """The atoms of the state dict as they appear."""
    found = (atom for axes in tensors.values() for axis in axes for atom in atoms(axis))
    return {id(atom): atom for atom in found}


def _once(occurrences: Iterable[Axes]) -> Iterator[Axes]:
    """Every set of axes that occurs together, once."""
    seen: set[tuple[int, ...]] = set()
    for axes in occurrences:
        key = tuple(id(resolve(term)) for term in axes if term.size != 1)
        if key not in seen:
            seen.add(key)
            yield axes


def _values(relations: Relations) -> Iterator[Axes]:
    for entry in relations.values.values():
        for value in entry if isinstance(entry, list) else [entry]:
            if isinstance(value, Value):
                yield value.axes


def _rows(relations: Relations) -> Rows:
    """Sets of atoms (rows), each of whose joint positions belongs to one position of others.

    The third entry has the atoms that this concerns, None for all: a look-up concerns the units of
    the table that is looked up, and not those of another table.
    """
    found: dict[tuple[str, frozenset[int], frozenset[int]], frozenset[int] | None] = {}
    for row in relations.notes.rows:
        units = None if row.units is None else _atoms(row.units)
        key = (row.origin, _keys(row.rows), _atoms([row.axis]))
        known = found.get(key, frozenset[int]())
        found[key] = None if units is None or known is None else known | units
    return [(rows, owners, units) for (_, rows, owners), units in found.items() if rows]


def _atoms(axes: Iterable[Term]) -> frozenset[int]:
    return frozenset(id(atom) for term in axes for atom in atoms(term))


def _keys(axes: Axes) -> frozenset[int]:
    return frozenset(id(factor) for term in axes for factor in factors(term) if factor.size != 1)


def _dependencies(
    occurrences: Iterable[tuple[Iterable[Axes], Rows]], order: Mapping[int, Term]
) -> dict[int, set[int]]:
    """For each atom, the atoms that accompany it wherever it occurs.

    What rows belong to depends on data, so it counts in computed values but not in tensors of the
    state dict, whose patterns cannot name it.
    """
    deps: dict[int, set[int]] = {}
    for axes, rows in ((axes, rows) for found, rows in occurrences for axes in found):
        certain = [_certain(term) for term in axes]
        present = _added(certain)
        belonging = [row for row in rows if all(present[key] for key in row[0])]
        for k, term in enumerate(axes):
            others = _added(c for j, c in enumerate(certain) if j != k)
            for atom, beside in _beside(term):
                owners = _owners(atom, belonging, present) if belonging else ()
                around = _added([others, *owners]) if owners else others
                here = _companions(beside, around) & order.keys() - {atom}
                deps[atom] = deps[atom] & here if atom in deps else here
    return {key: deps.get(key, set()) for key in order}


def _owners(atom: int, rows: Rows, present: Counter[int]) -> list[Counter[int]]:
    """The atoms that the units of an atom belong to in these rows; twice if that is ambiguous.

    It is ambiguous in two look-ups, and where an axis of the rows occurs twice: which of the two
    occurrences was assigned is not known.
    """
    found: list[Counter[int]] = []
    for keys, owners, units in rows:
        if units is None or atom in units:
            ways = 1 if all(present[key] == 1 for key in keys) else 2
            found.append(Counter(dict.fromkeys(owners, ways)))
    return found


def _companions(beside: Counter[int], others: Counter[int]) -> set[int]:
    """Atoms that an atom can be aligned with: once in its own axis, or else once in another."""
    near = {key for key, count in beside.items() if count == 1}
    far = {key for key, count in others.items() if count == 1 and key not in beside}
    return near | far


def _certain(term: Term) -> Counter[int]:
    """Atoms that every position of an axis belongs to, with the number of occurrences."""
    term = resolve(term)
    if term.form == "atom":
        return Counter({id(term): 1} if term.size != 1 else {})
    if term.form == "product":
        return _added(_certain(factor) for factor in factors(term))
    counters = [_certain(part) for part in parts(term)]
    common = set.intersection(*(set(counter) for counter in counters))
    found = Counter({key: max(counter[key] for counter in counters) for key in common})
    found[id(term)] = 1  # the sum itself, so that rows that are a sum are recognised
    return found


def _beside(term: Term) -> Iterator[tuple[int, Counter[int]]]:
    """Each atom of an axis with the atoms that accompany it in that axis."""
    term = resolve(term)
    if term.form == "atom":
        if term.size != 1:
            yield id(term), Counter()
    elif term.form == "sum":
        for part in parts(term):
            yield from _beside(part)
    else:
        children = factors(term)
        certain = [_certain(child) for child in children]
        for k, child in enumerate(children):
            others = _added(c for j, c in enumerate(certain) if j != k)
            for atom, inner in _beside(child):
                yield atom, inner + others


def _added(counters: Iterable[Counter[int]]) -> Counter[int]:
    result: Counter[int] = Counter()
    for counter in counters:
        result.update(counter)
    return result
