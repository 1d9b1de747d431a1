"""What is known of the entries of a value: how far they differ, and what masks left of them."""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

from symport.symmetry._terms import Term


class Level(IntEnum):
    """How far entries of a value are known to differ: see `distinct.py`."""

    EQUAL = 0  # several may be equal
    RANKED = 1  # all differ but those that a mask has put below the others
    BOUND = 2  # all differ, but they may add up to a constant, as shares do
    FREE = 3  # all differ


@dataclass(frozen=True)
class Marks:
    """One number at some places along an axis, the same count in each row, another elsewhere."""

    axis: Term
    share: Fraction
    base: float
    mark: float

    @property
    def left(self) -> Fraction:
        """The share of places that this leaves as a mask."""
        return 1 - self.share if self.mark else self.share


@dataclass(frozen=True)
class Entries:
    """What is known of the entries of a value.

    Attributes:
        level: How far they differ.
        cause: The operation that may have made some equal.
        weights: The weights that they depend on, one bit for each.
        positive: Whether none is negative.
        marks: Where a mask is, or what one left.
        number: What all are.
    """

    level: Level = Level.EQUAL
    cause: str = ""
    weights: int = 0
    positive: bool = False
    marks: Marks | None = None
    number: float | None = None


UNKNOWN = Entries()
