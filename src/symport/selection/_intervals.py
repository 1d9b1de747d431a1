"""The mean of paired examples with its bootstrap interval, and when a difference is significant.

Every comparison that is printed uses this rule, and none is made on fewer than `FEWEST` examples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

RESAMPLES = 2000  # the ends of an interval then vary by about a hundredth of its width
AT_ONCE = 2**21  # places drawn at a time: 16 MiB, however many examples there are
SHARE_OF_INTERVAL = 0.95
FEWEST = 6  # five agree in sign by chance with a probability of 2 · 2⁻⁵ > 5%


@dataclass(frozen=True)
class Interval:
    """A number with its 95% bootstrap interval over the examples.

    Attributes:
        value: On the examples as they are.
        low: 2.5% of resamples are below.
        high: 2.5% of resamples are above.

    Example:
        >>> gain = Interval(0.5, 0.25, 0.75)
        >>> gain.percent, gain.is_positive
        ('50% (25% to 75%)', True)
        >>> print(-gain)
        -0.5 (-0.75 to -0.25)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

    @property
    def percent(self) -> str:
        """As percentages."""
        return f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%})"

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def is_negative(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    def __neg__(self) -> "Interval":
        return Interval(-self.value, -self.high, -self.low)


def mean_interval(values: Tensor, seed: int = 0) -> Interval:
    """The mean of some numbers, one for each example.

    Args:
        values: Shape `(n,)`, float64.
        seed: Of the resamples.

    Example:
        >>> mean_interval(torch.ones(4))
        Interval(value=1.0, low=1.0, high=1.0)
    """
    means = torch.cat([values[index].mean(1) for index in resamples(len(values), seed)])
    return interval_of(float(values.mean()), means)


def resamples(count: int, seed: int) -> Iterator[Tensor]:
    """Places of examples drawn with replacement, in pieces `(some resamples, count)`."""
    generator = Generator().manual_seed(seed)
    for piece in torch.arange(RESAMPLES).split(max(1, AT_ONCE // count)):
        yield torch.randint(count, (len(piece), count), generator=generator)


def interval_of(value: float, resampled: Tensor) -> Interval:
    """A number with the interval of its resamples, shape `(resamples,)`."""
    tail = (1 - SHARE_OF_INTERVAL) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = resampled.double().quantile(ends).tolist()
    return Interval(value, low, high)


def too_few(count: int, what: str) -> str | None:
    """The sentence for fewer examples than a comparison needs; None if there are enough.

    Example:
        >>> too_few(5, "held-out examples")
        'Only 5 held-out examples: too few to compare candidates on; bring more.'
        >>> too_few(6, "held-out examples")
    """
    if count >= FEWEST:
        return None
    return f"Only {count} {what}: too few to compare candidates on; bring more."
