"""Terms that describe an axis: an atom, a product of terms, or a sum of terms.

An *atom* is a set of units about which nothing finer is known yet. Relating two axes refines
their atoms until both axes have the same structure, as unification does for types: an axis of
length 12 that is reshaped to 3 x 4 turns from an atom into a product of two, one that is a
concatenation of 5 and 7 into a sum. Where two axes cannot be given the same structure, every atom
in them is fixed, with a reason.

Sizes never change, so an atom is only ever bound to a term with smaller parts, and terms are
trees. Positions in a product are in row-major order, as in patterns.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from symport.errors import DiscoveryError

SINGLE = "each position is read on its own"


@dataclass(eq=False, slots=True)
class Term:
    """One axis or a part of one; compare with `is` after `resolve`.

    Attributes:
        size: Number of positions.
        form: Whether it is an atom, a product or a sum.
        children: Factors of a product (each of size above 1), or parts of a sum.
        reason: Why an atom is fixed; None while it is free.
        link: The term that an atom has been bound to.

    Example:
        >>> Term(8).reason, Term(8, reason="read in order").reason
        (None, 'read in order')
    """

    size: int
    form: Literal["atom", "product", "sum"] = "atom"
    children: tuple["Term", ...] = ()
    reason: str | None = None
    link: "Term | None" = None


def product(terms: Iterable[Term]) -> Term:
    """The row-major product of terms, as after merging axes; factors of size 1 are left out.

    Example:
        >>> product([Term(3), Term(1), Term(4)]).size
        12
    """
    children = [term for term in terms if term.size != 1]
    if len(children) == 1:
        return children[0]
    return Term(math.prod(term.size for term in children), "product", tuple(children))


def total(terms: Iterable[Term]) -> Term:
    """The sum of terms, as after a concatenation; empty ones are left out.

    If each has a single position, the result is a fixed atom, so that units can be nested in it.

    Example:
        >>> total([Term(3), Term(4)]).size
        7
    """
    children = [term for term in terms if term.size != 0]
    if len(children) == 1:
        return children[0]
    if children and all(term.size == 1 for term in children):
        return Term(len(children), reason=SINGLE)
    return Term(sum(term.size for term in children), "sum", tuple(children))


def resolve(term: Term) -> Term:
    """The term at the end of a chain of links, which is shortened."""
    end = term
    while end.link is not None:
        end = end.link
    while term.link is not None:
        term.link, term = end, term.link
    return end


def factors(term: Term) -> list[Term]:
    """The factors of a product, none of them a product itself."""
    return _flat(term, "product")


def parts(term: Term) -> list[Term]:
    """The parts of a sum, none of them a sum itself."""
    return _flat(term, "sum")


def atoms(term: Term) -> Iterator[Term]:
    """Every atom in a term, from left to right, with repetitions; those of size 0 or 1 left out."""
    term = resolve(term)
    if term.form == "atom":
        if term.size > 1:
            yield term
        return
    for child in term.children:
        yield from atoms(child)


def fix(term: Term, reason: str) -> None:
    """Fix every atom of a term: its units may not move. A fixed atom keeps its first reason.

    Example:
        >>> axis = Term(6)
        >>> fix(axis, "read in order")
        >>> axis.reason
        'read in order'
    """
    for atom in list(atoms(term)):
        atom.reason = atom.reason or reason


def tie(a: Term, b: Term) -> None:
    """Give two terms the same structure, so that one permutation moves the units of both.

    Atoms are refined as needed, and fixed where the two have no structure in common.

    Raises:
        DiscoveryError: Their sizes differ; a rule has related the wrong axes.

    Example:
        >>> merged, heads, units = Term(12), Term(3), Term(4)
        >>> tie(merged, product([heads, units]))
        >>> resolve(merged).form, resolve(merged).children == (heads, units)
        ('product', True)
    """
    a, b = resolve(a), resolve(b)
    if a.size != b.size:
        raise DiscoveryError(f"a rule ties an axis of length {a.size} to one of length {b.size}")
    if a is b or a.size <= 1:
        return
    if a.form == "atom":
        _bind(a, b)
    elif b.form == "atom":
        _bind(b, a)
    elif "sum" in (a.form, b.form):
        _tie_sums(a, b)
    else:
        _tie_products(factors(a), factors(b))


def split(term: Term, sizes: Sequence[int]) -> list[Term]:
    """Cut a term into consecutive parts of these sizes, refining it.

    A cut through the middle of a unit fixes the term; the parts are then new fixed atoms.

    Args:
        term: Changed in place.
        sizes: Of the parts; those of size 0 are left out.

    Example:
        >>> axis = Term(7)
        >>> [part.size for part in split(axis, [3, 4])], resolve(axis).form
        ([3, 4], 'sum')
    """
    term = resolve(term)
    sizes = [size for size in sizes if size]
    if len(sizes) == 1:
        return [term]
    if term.form == "atom":
        pieces = [Term(size, reason=term.reason) for size in sizes]
        term.link = total(pieces)
        return pieces
    if term.form == "sum":
        return _split_sum(parts(term), sizes)
    return _split_product(term, sizes)


def _flat(term: Term, form: str) -> list[Term]:
    term = resolve(term)
    if term.form != form:
        return [term]
    return [piece for child in term.children for piece in _flat(child, form)]


def _bind(atom: Term, other: Term) -> None:
    atom.link = other
    if atom.reason is not None:
        fix(other, atom.reason)


def _ends(terms: Iterable[Term]) -> list[int]:
    return list(itertools.accumulate(term.size for term in terms))


def _tie_sums(a: Term, b: Term) -> None:
    cuts = sorted({*_ends(parts(a)), *_ends(parts(b))})
    sizes = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
    for x, y in zip(split(a, sizes), split(b, sizes), strict=True):
        tie(x, y)


def _split_sum(pieces: Sequence[Term], sizes: Sequence[int]) -> list[Term]:
    """Cut every part that a cut falls inside, then gather the pieces of each size."""
    cuts = list(itertools.accumulate(sizes))
    fine: list[Term] = []
    start = 0
    for piece in pieces:
        end = start + piece.size
        inner = [start, *(cut for cut in cuts if start < cut < end), end]
        fine += split(piece, [b - a for a, b in itertools.pairwise(inner)])
        start = end
    queue = iter(fine)
    return [_gather(queue, size) for size in sizes]


def _gather(queue: Iterator[Term], size: int) -> Term:
    taken: list[Term] = []
    while size > 0:
        taken.append(next(queue))
        size -= taken[-1].size
    return total(taken)


def _split_product(term: Term, sizes: Sequence[int]) -> list[Term]:
    """Cut a product along its slowest factor; other cuts fix it."""
    first, *rest = factors(term)
    inner = math.prod(factor.size for factor in rest)
    if any(size % inner for size in sizes):
        shape, cut = _shape([first, *rest]), "+".join(map(str, sizes))
        reason = f"cut into {cut} across interleaved units ({shape}), as after a shuffle"
        fix(term, reason)
        return [Term(size, reason=reason) for size in sizes]
    return [product([lead, *rest]) for lead in split(first, [size // inner for size in sizes])]


def _tie_products(xs: list[Term], ys: list[Term]) -> None:
    """Relate factor by factor from the left, splitting an atom where the other side is finer."""
    while xs:
        xs, ys = [*factors(xs[0]), *xs[1:]], [*factors(ys[0]), *ys[1:]]
        small, large = (xs[0], ys[0]) if xs[0].size <= ys[0].size else (ys[0], xs[0])
        if small.size == large.size:
            tie(xs.pop(0), ys.pop(0))
        elif large.form == "atom" and large.size % small.size == 0:
            sizes = (small.size, large.size // small.size)
            large.link = product([Term(size, reason=large.reason) for size in sizes])
        else:
            _tie_segment(*_shortest_equal(xs, ys))


def _shortest_equal(xs: list[Term], ys: list[Term]) -> tuple[list[Term], list[Term]]:
    """Take from the left the fewest factors that give both sides one size."""
    taken: tuple[list[Term], list[Term]] = ([xs.pop(0)], [ys.pop(0)])
    while (a := _size(taken[0])) != (b := _size(taken[1])):
        if a < b:
            taken[0].append(xs.pop(0))
        else:
            taken[1].append(ys.pop(0))
    return taken


def _size(terms: Iterable[Term]) -> int:
    return math.prod(term.size for term in terms)


def _tie_segment(xs: Sequence[Term], ys: Sequence[Term]) -> None:
    a, b = product(xs), product(ys)
    if "sum" in (a.form, b.form):
        _tie_sums(a, b)
        return
    reason = f"reshaped from {_shape(xs)} to {_shape(ys)}, which share no factor"
    kept = _share_innermost(resolve(xs[-1]), resolve(ys[-1]), reason)
    for term in (*xs[:-1], *ys[:-1]) if kept else (a, b):
        fix(term, reason)


def _share_innermost(x: Term, y: Term, reason: str) -> bool:
    """Keep the innermost factor free that two products have in common; False if there is none."""
    shared = math.gcd(x.size, y.size)
    if (x.form, y.form) != ("atom", "atom") or not 1 < shared < max(x.size, y.size):
        return False
    run = Term(shared, reason=x.reason or y.reason)
    for atom in (x, y):
        atom.link = product([Term(atom.size // shared, reason=reason), run])
    return True


def _shape(terms: Iterable[Term]) -> str:
    return "x".join(str(term.size) for term in terms)
