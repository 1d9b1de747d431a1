"""What an axis consists of: an atom, a product of terms, or a sum of terms.

An *atom* is a set of units about which nothing finer is known yet. Relating two axes refines
atoms until both axes read alike, as unification does for types: an axis of length 12 that is
reshaped to 3 x 4 turns from an atom into a product of two, one that is a concatenation of 5 and
7 into a sum. Where two axes cannot be made to read alike, every atom in them is pinned: its
units stay, and it knows why.

Sizes never change, so an atom can only be bound to what has smaller parts, and terms are trees.
Positions in a product are in row-major order, as in patterns.
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
        form: What it is made of.
        children: Factors of a product (each above 1), or parts of a sum.
        reason: Why the units of an atom stay; None while they are free.
        link: What an atom has turned out to be.
    """

    size: int
    form: Literal["atom", "product", "sum"] = "atom"
    children: tuple["Term", ...] = ()
    reason: str | None = None
    link: "Term | None" = None


def product(terms: Iterable[Term]) -> Term:
    """The row-major product; factors of size 1 are left out.

    Example:
        >>> product([Term(3), Term(1), Term(4)]).size
        12
    """
    children = [term for term in terms if term.size != 1]
    if len(children) == 1:
        return children[0]
    return Term(math.prod(term.size for term in children), "product", tuple(children))


def total(terms: Iterable[Term]) -> Term:
    """The terms laid one after the other; empty ones are left out.

    Single positions are an atom that stays, so that units can be nested in them.
    """
    children = [term for term in terms if term.size != 0]
    if len(children) == 1:
        return children[0]
    if children and all(term.size == 1 for term in children):
        return Term(len(children), reason=SINGLE)
    return Term(sum(term.size for term in children), "sum", tuple(children))


def resolve(term: Term) -> Term:
    """What a term has turned out to be; the way there is shortened."""
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


def pin(term: Term, reason: str) -> None:
    """Make every atom of a term stay; an atom that stays already keeps its first reason."""
    for atom in list(atoms(term)):
        atom.reason = atom.reason or reason


def tie(a: Term, b: Term) -> None:
    """Make two terms read alike, refining or pinning their atoms as needed.

    Raises:
        DiscoveryError: Their sizes differ; a rule has related the wrong axes.
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

    A cut through the middle of a unit pins the term, and the parts are new and pinned.

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
        pin(other, atom.reason)


def _ends(terms: Iterable[Term]) -> list[int]:
    return list(itertools.accumulate(term.size for term in terms))


def _tie_sums(a: Term, b: Term) -> None:
    cuts = sorted({*_ends(parts(a)), *_ends(parts(b))})
    sizes = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
    for x, y in zip(split(a, sizes), split(b, sizes), strict=True):
        tie(x, y)


def _split_sum(pieces: Sequence[Term], sizes: Sequence[int]) -> list[Term]:
    """Cut every part where a cut falls inside it, then gather the pieces of each size."""
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
    """Cut a product along its slowest factor."""
    first, *rest = factors(term)
    inner = math.prod(factor.size for factor in rest)
    if any(size % inner for size in sizes):
        shape, cut = _shape([first, *rest]), "+".join(map(str, sizes))
        reason = f"cut into {cut} across units that lie interleaved ({shape}), as after a shuffle"
        pin(term, reason)
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
    """Take from the left as many factors as make both sides equally large."""
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
        pin(term, reason)


def _share_innermost(x: Term, y: Term, reason: str) -> bool:
    """Save what two products share from the right: runs of positions that lie in both alike."""
    shared = math.gcd(x.size, y.size)
    if (x.form, y.form) != ("atom", "atom") or not 1 < shared < max(x.size, y.size):
        return False
    run = Term(shared, reason=x.reason or y.reason)
    for atom in (x, y):
        atom.link = product([Term(atom.size // shared, reason=reason), run])
    return True


def _shape(terms: Iterable[Term]) -> str:
    return "x".join(str(term.size) for term in terms)
