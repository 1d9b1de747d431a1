"""Records of what is known about the entries of a value: whether they differ, and masks on them."""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

from symport.symmetry._terms import Term


class Level(IntEnum):
    """How far entries of a value are known to differ: see `_distinct.py`."""

    EQUAL = 0  # several may be equal
    RANKED = 1  # all differ, except those that a mask has set below the others
    BOUND = 2  # all differ, but their sum may be constant, as after a softmax
    FREE = 3  # all differ


@dataclass(frozen=True)
class Marks:
    """One number at some places along an axis, equally many in each row, and another elsewhere.

    Attributes:
        axis: The axis.
        share: Of the places that hold `mark`.
        base: The number at all other places.
        mark: The number at those places.
    """

    axis: Term
    share: Fraction
    base: float
    mark: float

    @property
    def left(self) -> Fraction:
        """The share of places that remain where this is a mask."""
        return 1 - self.share if self.mark else self.share


@dataclass(frozen=True)
class Entries:
    """What is known of the entries of a value.

    Attributes:
        level: How far they differ.
        cause: The operation that may have made some equal.
        weights: The weights that they depend on, one bit for each.
        positive: Whether none is negative.
        marks: The mask that this is, or that has been applied.
        number: The number that all are, if they are all one.
    """

    level: Level = Level.EQUAL
    cause: str = ""
    weights: int = 0
    positive: bool = False
    marks: Marks | None = None
    number: float | None = None


UNKNOWN = Entries()
