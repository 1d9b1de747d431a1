"""Refining axes: after a tie both sides must have one structure, or every atom in them is fixed."""

import math

import pytest
from cases import present
from hypothesis import given
from hypothesis import strategies as st

from symport.errors import DiscoveryError
from symport.symmetry._terms import (
    Term,
    atoms,
    factors,
    fix,
    parts,
    product,
    resolve,
    split,
    tie,
    total,
)


def written(term):
    """A term as nested text, atoms by identity."""
    term = resolve(term)
    if term.form == "atom":
        return (id(term), term.size) if term.size > 1 else 1
    if term.form == "product":
        return ("product", *(written(child) for child in factors(term)))
    return ("sum", *(written(child) for child in parts(term)))


def positions(term):
    """For every position of an axis, the atoms and places in them that it stands for.

    An independent reading: two axes agree if they give the same table.
    """
    term = resolve(term)
    if term.form == "atom":
        return [((id(term), k),) if term.size > 1 else () for k in range(term.size)]
    if term.form == "sum":
        return [place for part in parts(term) for place in positions(part)]
    table = [()]
    for factor in factors(term):
        table = [(*a, *b) for a in table for b in positions(factor)]
    return table


def sizes(term):
    return [atom.size for atom in atoms(term)]


def test_two_atoms_become_one():
    a, b = Term(4), Term(4)
    tie(a, b)
    assert resolve(a) is resolve(b)


def test_an_atom_takes_the_form_of_what_it_is_tied_to():
    axis, rows, columns = Term(12), Term(3), Term(4)
    tie(axis, product([rows, columns]))
    assert written(axis) == ("product", (id(rows), 3), (id(columns), 4))


def test_products_are_refined_to_their_common_factors():
    a, b = product([Term(4), Term(6)]), product([Term(2), Term(12)])
    tie(a, b)
    assert sizes(a) == sizes(b) == [2, 2, 6]
    assert positions(a) == positions(b)


def test_products_that_share_no_factor_stay():
    a, b = product([Term(4), Term(3)]), product([Term(6), Term(2)])
    tie(a, b)
    assert all("share no factor" in present(atom.reason) for t in (a, b) for atom in atoms(t))


def test_products_that_share_only_their_innermost_positions_keep_those():
    a, b = product([Term(3), Term(4)]), product([Term(2), Term(6)])
    tie(a, b)
    assert [(atom.size, atom.reason is None) for atom in atoms(a)] == [
        (3, False), (2, False), (2, True),
    ]  # fmt: skip
    assert agree_where_free(a, b)


def test_sums_are_cut_at_the_ends_of_both():
    a, b = total([Term(3), Term(5)]), total([Term(4), Term(4)])
    tie(a, b)
    assert sizes(a) == sizes(b) == [3, 1, 4] or sizes(a) == [3, 4]
    assert positions(a) == positions(b)


def test_a_sum_of_equal_parts_meets_a_product():
    stack, units = Term(3), Term(4)
    a, b = total([Term(4), Term(4), Term(4)]), product([stack, units])
    tie(a, b)
    assert agree_where_free(a, b)
    assert {atom.size for atom in atoms(a)} == {4}
    assert resolve(stack).reason == "each position is read on its own"


def test_a_cut_through_a_unit_pins():
    axis = product([Term(3), Term(4)])
    pieces = split(axis, [5, 7])
    assert [piece.size for piece in pieces] == [5, 7]
    assert all(atom.reason for piece in (axis, *pieces) for atom in atoms(piece))


def test_what_is_pinned_pins_what_it_meets():
    fixed = Term(6, reason="input axis")
    axis = product([Term(2), Term(3)])
    tie(axis, fixed)
    assert {atom.reason for atom in atoms(axis)} == {"input axis"}


def test_the_first_reason_is_kept():
    axis = Term(3)
    fix(axis, "first")
    fix(axis, "second")
    assert axis.reason == "first"


def test_axes_of_different_lengths_cannot_be_tied():
    with pytest.raises(DiscoveryError, match="length 3 to one of length 4"):
        tie(Term(3), Term(4))


@st.composite
def terms(draw, size, depth=3):
    """A random term of a given size."""
    kinds = ["atom", *(["sum"] if size > 1 and depth else [])]
    divisors = [k for k in range(2, size) if size % k == 0]
    kinds += ["product"] if divisors and depth else []
    match draw(st.sampled_from(kinds)):
        case "product":
            k = draw(st.sampled_from(divisors))
            return product([draw(terms(k, depth - 1)), draw(terms(size // k, depth - 1))])
        case "sum":
            k = draw(st.integers(1, size - 1))
            return total([draw(terms(k, depth - 1)), draw(terms(size - k, depth - 1))])
        case _:
            return Term(size)


@given(st.data(), st.sampled_from([4, 6, 8, 12, 24]))
def test_after_a_tie_both_read_alike_or_stay(data, size):
    a, b = data.draw(terms(size)), data.draw(terms(size))
    tie(a, b)
    free = [atom for t in (a, b) for atom in atoms(t) if atom.reason is None]
    assert positions(a) == positions(b) or not free or agree_where_free(a, b)
    assert len(positions(a)) == len(positions(b)) == size


def agree_where_free(a, b):
    """Positions of free atoms agree; the others do not matter, since they stay."""
    loose = {id(atom) for t in (a, b) for atom in atoms(t) if atom.reason is None}

    def kept(table):
        return [tuple(p for p in place if p[0] in loose) for place in table]

    return kept(positions(a)) == kept(positions(b))


@given(st.data(), st.sampled_from([6, 8, 12]))
def test_tying_again_frees_nothing_and_keeps_both_alike(data, size):
    """Sums inside products may be cut more finely the second time: more may stay, never less."""
    a, b = data.draw(terms(size)), data.draw(terms(size))
    tie(a, b)
    stay = [atom for t in (a, b) for atom in atoms(t) if atom.reason is not None]
    tie(b, a)
    assert all(atom.reason is not None for term in stay for atom in atoms(term))
    assert agree_where_free(a, b)


@given(st.data(), st.sampled_from([6, 8, 12]))
def test_the_parts_of_a_split_laid_side_by_side_are_the_axis(data, size):
    axis = data.draw(terms(size))
    cut = data.draw(st.integers(1, size - 1))
    pieces = split(axis, [cut, size - cut])
    free = [atom for piece in pieces for atom in atoms(piece) if atom.reason is None]
    if free:
        assert agree_where_free(total(pieces), axis)
    assert math.fsum(piece.size for piece in pieces) == size
