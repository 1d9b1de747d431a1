"""Formatted numbers, mean and standard deviation, and tables in Markdown."""

import statistics
from collections.abc import Sequence


def sd(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean_sd(values: Sequence[float], *, digits: int = 1, percent: bool = True) -> str:
    """Mean ± standard deviation, with so many digits after the point; of one value, itself.

    Args:
        values: At least one.
        digits: After the decimal point.
        percent: Whether values in [0, 1] are to be shown in %.

    Example:
        >>> mean_sd([0.5, 0.7])
        '60.0\u2009±\u200914.1'
    """
    scale = 100 if percent else 1
    mean, spread = scale * statistics.mean(values), scale * sd(values)
    around = f"\u2009±\u2009{spread:.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{around}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown.

    Example:
        >>> markdown(["a", "b"], [["1", "2"]])
        ['| a | b |', '| --- | --- |', '| 1 | 2 |']
    """
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
