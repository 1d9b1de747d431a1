"""Read and print the symmetry of one tensor as text, one word per axis.

    "h1 ."                         rows are the units of group h1, columns stay
    "c2 c1 . ."                    a convolution
    ". (c2 16)"                    after a flatten: 16 positions for each unit of c2
    "(c1 + c2) . . ."              a concatenation
    "(heads heads/u 2) ."          units nested in heads: inside each head a permutation of its own
    "(h h/qk + h h/qk + h h/v) d"  fused attention: a product binds tighter than a sum

A word is `.` (a fixed axis of any length), a number (a fixed factor of that length), or the name of
a group. A name with slashes is a path: `a/b` is nested in `a`. A product is in row-major order, as
in einops.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from symport.errors import SpecError


@dataclass(frozen=True)
class Fixed:
    """A factor that does not move: `.`, or a number.

    Attributes:
        size: The number; None for `.`, whose length the tensor determines.

    Example:
        >>> parse_pattern("(2 h)")[0].factors[0]
        Fixed(size=2)
    """

    size: int | None = None


@dataclass(frozen=True)
class Unit:
    """A factor that runs over the units of a group.

    Attributes:
        group: Its name, a path where it is nested.

    Example:
        >>> parse_pattern("h/v")
        (Unit(group='h/v'),)
    """

    group: str


@dataclass(frozen=True)
class Product:
    """Several factors on one axis, the last one running fastest.

    Attributes:
        factors: In row-major order.

    Example:
        >>> parse_pattern("(c 4)")
        (Product(factors=(Unit(group='c'), Fixed(size=4))),)
    """

    factors: tuple["Axis", ...]


@dataclass(frozen=True)
class Sum:
    """Parts concatenated along one axis.

    Attributes:
        parts: In their order.

    Example:
        >>> parse_pattern("(a + b)")
        (Sum(parts=(Unit(group='a'), Unit(group='b'))),)
    """

    parts: tuple["Axis", ...]


Axis: TypeAlias = Fixed | Unit | Product | Sum
Pattern: TypeAlias = tuple[Axis, ...]

_TOKEN = re.compile(r"\s*([().+]|\d+(?![\w/-])|[A-Za-z_][\w.-]*(?:/[\w.-]+)*)")


def parse_pattern(text: str) -> Pattern:
    """Parse one pattern.

    Args:
        text: One word per axis; empty for a scalar.

    Returns:
        One tree per axis.

    Raises:
        SpecError: The text breaks the grammar; the message shows where.

    Example:
        >>> parse_pattern("h1 .")
        (Unit(group='h1'), Fixed(size=None))
    """
    tokens = _tokens(text)
    axes: list[Axis] = []
    while tokens:
        axes.append(_parse_axis(tokens, text, top=True))
    return tuple(axes)


def show_pattern(pattern: Pattern) -> str:
    """Print a pattern; `parse_pattern` reads it back.

    Example:
        >>> show_pattern(parse_pattern("( c1 + c2 )  ."))
        '(c1 + c2) .'
    """
    return " ".join(_show(axis) for axis in pattern)


def parents(group: str) -> tuple[str, ...]:
    """The groups that `group` is nested in, outermost first.

    Example:
        >>> parents("kv/q/u")
        ('kv', 'kv/q')
    """
    parts = group.split("/")
    return tuple("/".join(parts[:k]) for k in range(1, len(parts)))


def root(group: str) -> str:
    """The outermost group of a path.

    Example:
        >>> root("kv/q/u")
        'kv'
    """
    return group.split("/", 1)[0]


def groups_in(axis: Axis) -> Iterator[str]:
    """Every group named in an axis, with repetitions, from left to right.

    Example:
        >>> list(groups_in(parse_pattern("(a + 2 b + a)")[0]))
        ['a', 'b', 'a']
    """
    match axis:
        case Unit(group):
            yield group
        case Product(children) | Sum(children):
            for child in children:
                yield from groups_in(child)
        case Fixed():
            pass


def axis_terms(axis: Axis) -> list[frozenset[str]]:
    """The groups in each of the products that an axis is a sum of.

    Example:
        >>> [sorted(term) for term in axis_terms(parse_pattern("(a b + 2 a)")[0])]
        [['a', 'b'], ['a']]
    """
    match axis:
        case Fixed():
            return [frozenset()]
        case Unit(group):
            return [frozenset({group})]
        case Sum(parts):
            return [term for part in parts for term in axis_terms(part)]
        case Product(factors):
            choices = product(*(axis_terms(factor) for factor in factors))
            return [frozenset[str]().union(*choice) for choice in choices]


def axis_length(axis: Axis, sizes: Mapping[str, int]) -> int | None:
    """The length of an axis for the given group sizes, or None if they do not determine it.

    Example:
        >>> axis_length(parse_pattern("(a 2 + b)")[0], {"a": 3, "b": 5})
        11
    """
    match axis:
        case Fixed(size):
            return size
        case Unit(group):
            return sizes.get(group)
        case Product(children) | Sum(children):
            lengths = [axis_length(child, sizes) for child in children]
            known = [length for length in lengths if length is not None]
            if len(known) < len(lengths):
                return None
            return math.prod(known) if isinstance(axis, Product) else sum(known)


@dataclass(frozen=True, eq=False)
class Block:
    """A part of an axis that is a product of factors, without sums.

    Attributes:
        labels: The group of each factor, None where it is fixed.
        positions: The position in the axis of each combination of units, int64; its shape is the
            sizes of the factors.

    Example:
        >>> (block,) = axis_blocks(parse_pattern("(h 2)")[0], 6, {"h": 3})
        >>> block.labels, block.positions.tolist()
        (('h', None), [[0, 1], [2, 3], [4, 5]])
    """

    labels: tuple[str | None, ...]
    positions: Tensor


def axis_blocks(axis: Axis, length: int, sizes: Mapping[str, int]) -> list[Block]:
    """Split an axis at its sums into products that together cover `range(length)`.

    Args:
        axis: One axis of a pattern.
        length: The length of the axis.
        sizes: The size of each group; must determine the length.

    Raises:
        SpecError: A group in a product or sum has no known size.

    Example:
        >>> blocks = axis_blocks(parse_pattern("(a + b)")[0], 5, {"a": 2, "b": 3})
        >>> [block.positions.tolist() for block in blocks]
        [[0, 1], [2, 3, 4]]
    """
    match axis:
        case Fixed():
            return [Block((None,), torch.arange(length))]
        case Unit(group):
            return [Block((group,), torch.arange(length))]
        case Sum(parts):
            return _sum_blocks(parts, sizes)
        case Product(factors):
            lengths = [_known(factor, sizes) for factor in factors]
            blocks = [
                axis_blocks(factor, n, sizes) for factor, n in zip(factors, lengths, strict=True)
            ]
            return [_join(choice, lengths) for choice in product(*blocks)]


def _sum_blocks(parts: Sequence[Axis], sizes: Mapping[str, int]) -> list[Block]:
    result: list[Block] = []
    offset = 0
    for part in parts:
        n = _known(part, sizes)
        result += [
            Block(block.labels, block.positions + offset) for block in axis_blocks(part, n, sizes)
        ]
        offset += n
    return result


def _join(blocks: Sequence[Block], lengths: Sequence[int]) -> Block:
    """The row-major product of one block per factor, whose full lengths are `lengths`."""
    labels: tuple[str | None, ...] = ()
    positions = torch.zeros((), dtype=torch.int64)
    for block, length in zip(blocks, lengths, strict=True):
        spread = positions.reshape(positions.shape + (1,) * block.positions.ndim)
        positions = spread * length + block.positions
        labels += block.labels
    return Block(labels, positions)


def _known(axis: Axis, sizes: Mapping[str, int]) -> int:
    length = axis_length(axis, sizes)
    if length is None:
        raise SpecError(f"{_show(axis)}: a group in it has no known size")
    return length


def _show(axis: Axis) -> str:
    match axis:
        case Fixed(size):
            return "." if size is None else str(size)
        case Unit(group):
            return group
        case Product():
            return f"({_show_product(axis)})"
        case Sum(parts):
            shown = (_show_product(p) if isinstance(p, Product) else _show(p) for p in parts)
            return f"({' + '.join(shown)})"


def _show_product(axis: Product) -> str:
    return " ".join(_show(factor) for factor in axis.factors)


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, ...]:
    tokens: list[str] = []
    place = 0
    end = len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        if found is None:
            raise SpecError(
                f"pattern {text!r}: cannot read {text[place:].strip()!r}; a word is '.', a number, "
                "a group name such as h1 or heads/u, or a bracketed product or sum"
            )
        tokens.append(found[1])
        place = found.end()
    return tuple(tokens)


def _tokens(text: str) -> list[str]:
    """Tokens in reverse, so that `pop` takes the next one."""
    return list(reversed(_split(text)))


def _parse_axis(tokens: list[str], text: str, *, top: bool) -> Axis:
    token = tokens.pop()
    if token == "(":
        return _parse_sum(tokens, text)
    if token == ".":
        if not top:
            raise SpecError(f"pattern {text!r}: inside brackets give a length instead of '.'")
        return Fixed()
    if token.isdigit():
        return Fixed(_positive(token, text))
    if token in ")+":
        raise SpecError(f"pattern {text!r}: unexpected {token!r}")
    return Unit(token)


def _positive(token: str, text: str) -> int:
    if int(token) < 1:
        raise SpecError(f"pattern {text!r}: a length must be at least 1, not {token}")
    return int(token)


def _parse_sum(tokens: list[str], text: str) -> Axis:
    parts: list[list[Axis]] = [[]]
    while tokens and tokens[-1] != ")":
        if tokens[-1] == "+":
            tokens.pop()
            parts.append([])
        else:
            parts[-1].append(_parse_axis(tokens, text, top=False))
    if not tokens:
        raise SpecError(f"pattern {text!r}: a bracket is not closed")
    tokens.pop()
    if not all(parts):
        raise SpecError(f"pattern {text!r}: empty brackets or an empty part of a sum")
    terms = [part[0] if len(part) == 1 else Product(tuple(part)) for part in parts]
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))
