"""Shortest augmenting paths from a known assignment, compiled: the inner loops of `assign`.

Rows whose column is their best offer at the current prices keep it; for each of the others a
shortest augmenting path to a free column is found (Jonker & Volgenant 1987; the dual update is that
of Crouse 2016). Importing this file needs numba, the extra `fast`.

In what follows the reduced cost of a pair is `cost[row, column] - prices[column]`, less the
smallest in its row; a pair is tight where that is 0, and an assignment of tight pairs is optimal.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile at the first call, keep the code on disk, and let other threads run meanwhile."""
    return cast("F", njit(cache=True, nogil=True)(function))


@_compiled
def solve(cost: Floats, start: Integers, rounds: int) -> Integers:
    """The assignment of least cost.

    Args:
        cost: Shape `(n, n)`, C-contiguous, finite.
        start: A permutation, the column of each row, shape `(n,)`, int64; the closer to the optimum
            the faster.
        rounds: The most passes made to estimate the prices at which `start` would be optimal.

    Returns:
        The column of each row, shape `(n,)`, int64.

    Example:
        >>> solve(np.array([[0.0, -5.0], [-5.0, -1.0]]), np.array([0, 1]), 4)
        array([1, 0])
    """
    prices = _guess(cost, start, rounds)
    columns = np.full(len(start), -1)
    rows = np.full(len(start), -1)
    for row, column in enumerate(start):
        if _is_tight(cost[row], prices, column):
            columns[row], rows[column] = column, row
    for row in range(len(start)):
        if columns[row] < 0:
            _augment(cost, prices, columns, rows, row)
    return columns


@_compiled
def _guess(cost: Floats, start: Integers, rounds: int) -> Floats:
    """Prices at which many pairs of `start` are tight: from 0, lowered while more become so."""
    prices = np.zeros(len(start))
    tight = _count_tight(cost, start, prices)
    for _ in range(rounds):
        trial = prices.copy()
        for row, column in enumerate(start):
            _lower(cost[row], trial, column)
        count = _count_tight(cost, start, trial)
        if count <= tight:  # `start` is far from the optimum, or no more pairs can be tight
            break
        prices, tight = trial, count
    return prices


@_compiled
def _lower(offers: Floats, prices: Floats, column: int) -> None:
    """Make a pair tight by lowering the prices of better offers to the row (Bellman-Ford)."""
    own = offers[column] - prices[column]
    for j in range(len(prices)):
        price = offers[j] - own
        prices[j] = price if price < prices[j] else prices[j]


@_compiled
def _count_tight(cost: Floats, start: Integers, prices: Floats) -> int:
    count = 0
    for row, column in enumerate(start):
        count += _is_tight(cost[row], prices, column)
    return count


@_compiled
def _is_tight(offers: Floats, prices: Floats, column: int) -> bool:
    own = offers[column] - prices[column]
    better = 0  # counted without leaving the loop, which is then vectorised
    for j in range(len(prices)):
        better += offers[j] - prices[j] < own
    return better == 0


@_compiled
def _augment(cost: Floats, prices: Floats, columns: Integers, rows: Integers, first: int) -> None:
    """Assign the free row `first` along a shortest path to a free column, in place."""
    distance = cost[first] - prices
    distance -= distance.min()
    via = np.full(len(prices), first)  # the row from which each column is reached
    ahead = prices.copy()  # -inf where a column is done, so that it is never reached again
    done = np.empty(len(prices), np.int64)
    lengths = np.empty(len(prices))
    count = 0
    while True:
        column = _nearest(distance, rows)
        length = distance[column]
        done[count], lengths[count] = column, length
        count += 1
        row = rows[column]
        if row < 0:
            break
        distance[column], ahead[column] = np.inf, -np.inf
        shift = length - (cost[row, column] - prices[column])
        _relax(cost[row], ahead, shift, length, row, distance, via)
    for k in range(count - 1):
        prices[done[k]] += lengths[k] - length
    while row != first:
        row = via[column]
        rows[column] = row
        columns[row], column = column, columns[row]


@_compiled
def _relax(
    offers: Floats,
    ahead: Floats,
    shift: float,
    length: float,
    row: int,
    distance: Floats,
    via: Integers,
) -> None:
    """Shorten the distance to every open column by the path through `row`."""
    for j in range(len(distance)):
        new = offers[j] - ahead[j] + shift
        new = new if new > length else length  # round-off must not make a step negative
        via[j] = row if new < distance[j] else via[j]
        distance[j] = new if new < distance[j] else distance[j]


@_compiled
def _nearest(distance: Floats, rows: Integers) -> int:
    """The nearest column, a free one if several are equally near."""
    # Floats that are not negative order as their bits do, and integer minima are vectorised.
    bits = distance.view(np.int64)
    least = bits[0]
    for j in range(len(bits)):
        least = min(least, bits[j])
    found = -1
    for j in range(len(bits)):
        rank = j + len(bits) if rows[j] < 0 else j
        found = max(found, rank if bits[j] == least else -1)
    return found % len(bits)
