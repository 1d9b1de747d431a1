from itertools import product as cartesian

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symport.errors import SpecError
from symport.spec import (
    Axis,
    Fixed,
    Product,
    Sum,
    Unit,
    axis_blocks,
    axis_length,
    groups_in,
    parents,
    parse_pattern,
    root,
    show_pattern,
)
from symport.spec._pattern import axis_terms

h, u = Unit("h"), Unit("h/u")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (".", (Fixed(),)),
        ("h1 .", (Unit("h1"), Fixed())),
        ("16 h", (Fixed(16), h)),
        (". (h 16)", (Fixed(), Product((h, Fixed(16))))),
        ("(h + h/u) .", (Sum((h, u)), Fixed())),
        ("(h h/u 2)", (Product((h, u, Fixed(2))),)),
        ("(h h/u + 3 + h)", (Sum((Product((h, u)), Fixed(3), h)),)),
        ("((h + 3) h/u)", (Product((Sum((h, Fixed(3))), u)),)),
        ("(h)", (h,)),
        ("((h h/u))", (Product((h, u)),)),
        ("layers.0.heads/qk _x a-b", (Unit("layers.0.heads/qk"), Unit("_x"), Unit("a-b"))),
        ("  (h\t(h/u 2))\n. ", (Product((h, Product((u, Fixed(2))))), Fixed())),
        ("(2 3).", (Product((Fixed(2), Fixed(3))), Fixed())),
    ],
)
def test_a_pattern_is_one_tree_an_axis(text: str, expected: tuple[Axis, ...]):
    assert parse_pattern(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h (.", r"pattern 'h \(\.': inside brackets give a length instead of '\.'"),
        ("(h 16", "a bracket is not closed"),
        ("h )", r"unexpected '\)'"),
        ("h + u", r"unexpected '\+'"),
        ("()", "empty brackets or an empty part of a sum"),
        ("(h + )", "empty brackets or an empty part of a sum"),
        ("(+ h)", "empty brackets or an empty part of a sum"),
        ("0", "a length must be at least 1, not 0"),
        ("(h 0)", "a length must be at least 1, not 0"),
        ("16x", "cannot read '16x'; a word is '.', a number, a group name such as h1"),
        ("h/ u", "cannot read '/ u'"),
        ("h -3", "cannot read '-3'"),
        ("h * u", r"cannot read '\* u'"),
        ("ü", "cannot read 'ü'"),
    ],
)
def test_a_malformed_pattern_is_refused_where_it_breaks(text: str, message: str):
    with pytest.raises(SpecError, match=message):
        parse_pattern(text)


NAMES = ["h", "h/u", "h/u/w", "c.1", "a-b"]
WORDS = st.one_of(st.integers(1, 20).map(Fixed), st.sampled_from(NAMES).map(Unit))


def plural(trees: st.SearchStrategy[Axis]) -> st.SearchStrategy[tuple[Axis, ...]]:
    return st.lists(trees, min_size=2, max_size=3).map(tuple)


TREES = st.recursive(
    WORDS, lambda inner: st.one_of(plural(inner).map(Product), plural(inner).map(Sum)), max_leaves=6
)
PATTERNS = st.lists(st.one_of(TREES, st.just(Fixed())), max_size=4).map(tuple)


@given(PATTERNS)
@settings(deadline=None, derandomize=True)
def test_what_is_shown_is_read_back(pattern: tuple[Axis, ...]):
    assert parse_pattern(show_pattern(pattern)) == pattern


def test_a_pattern_is_shown_with_the_fewest_brackets():
    assert show_pattern(parse_pattern("( (a b)+c ) (( d )) .")) == "(a b + c) d ."


def test_the_parents_of_a_path_are_its_beginnings():
    assert parents("kv/q/u") == ("kv", "kv/q")
    assert parents("kv") == ()
    assert (root("kv/q/u"), root("kv")) == ("kv", "kv")


def test_groups_come_from_left_to_right_with_repetitions():
    (axis,) = parse_pattern("(h h/u + 3 h + h/u)")
    assert list(groups_in(axis)) == ["h", "h/u", "h", "h/u"]


SIZES = {"a": 2, "b": 3, "h": 2, "h/u": 4}


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (".", None),
        ("5", 5),
        ("b", 3),
        ("other", None),
        ("(a b 4)", 24),
        ("(a + b + 4)", 9),
        ("(a b + b)", 9),
        ("((a + b) 4)", 20),
        ("(a other)", None),
        ("(a + other)", None),
    ],
)
def test_the_length_of_an_axis_by_hand(text: str, length: int | None):
    (axis,) = parse_pattern(text)
    assert axis_length(axis, SIZES) == length


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        (".", [set()]),
        ("a", [{"a"}]),
        ("(a b 4)", [{"a", "b"}]),
        ("(a b + 3 + a)", [{"a", "b"}, set(), {"a"}]),
        ("((a + b) (a + h))", [{"a"}, {"a", "h"}, {"a", "b"}, {"b", "h"}]),
    ],
)
def test_the_terms_of_an_axis_by_hand(text: str, terms: list[set[str]]):
    (axis,) = parse_pattern(text)
    assert axis_terms(axis) == terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a b)", [(("a", "b"), [[0, 1, 2], [3, 4, 5]])]),
        ("(a + b)", [(("a",), [0, 1]), (("b",), [2, 3, 4])]),
        ("(a 2 + b)", [(("a", None), [[0, 1], [2, 3]]), (("b",), [4, 5, 6])]),
        # The sum runs fastest: three rows of (a + 1), each of length 3.
        ("(b (a + 1))", [(("b", "a"), [[0, 1], [3, 4], [6, 7]]), (("b", None), [[2], [5], [8]])]),
    ],
)
def test_the_blocks_of_an_axis_by_hand(text: str, expected):
    (axis,) = parse_pattern(text)
    blocks = axis_blocks(axis, axis_length(axis, SIZES) or 0, SIZES)
    assert [(block.labels, block.positions.tolist()) for block in blocks] == expected


@given(TREES)
@settings(deadline=None, derandomize=True)
def test_blocks_cover_every_place_of_an_axis_once(axis: Axis):
    sizes = {name: 1 + k % 3 for k, name in enumerate(NAMES)}
    length = axis_length(axis, sizes)
    assert length is not None
    blocks = axis_blocks(axis, length, sizes)
    places = torch.cat([block.positions.flatten() for block in blocks])
    assert places.sort().values.tolist() == list(range(length))
    terms = [{label for label in block.labels if label} for block in blocks]
    assert terms == axis_terms(axis)


def test_a_product_is_in_row_major_order():
    (axis,) = parse_pattern("(a b 5)")
    (block,) = axis_blocks(axis, 30, SIZES)
    for place, (i, j, k) in enumerate(cartesian(range(2), range(3), range(5))):
        assert block.positions[i, j, k] == place


def test_an_unknown_size_is_named():
    (axis,) = parse_pattern("(a other)")
    with pytest.raises(SpecError, match="other: a group in it has no known size"):
        axis_blocks(axis, 6, SIZES)
