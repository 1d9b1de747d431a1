"""Solve a linear assignment problem exactly, with a warm start.

The similarities change little from one step of a trajectory to the next, so the assignment of the
last step is nearly optimal. A few passes estimate dual prices of the columns at which `start` would
be optimal. Rows whose column is then their best offer keep it, and only the others are solved for:
by compiled code if numba is installed (the extra `fast`), and otherwise by scipy on reduced costs,
which have the same optimum. No state is kept between calls.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from symport.errors import ParamsError

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

# Added to the similarity at the current assignment, relative to the largest |similarity|, so that
# ties keep it; far above round-off, 2e-16.
TIE_BREAK = 1e-12
ROUNDS = 4  # at most; more cost what they save
COMPILED_FROM = 48  # units; below, scipy from nothing is as fast as any preparation
REDUCED_FROM = 128  # likewise without numba


def assign(similarity: Tensor, start: Tensor | None = None) -> Tensor:
    """Assign source units to positions so that the sum of `similarity[i, result[i]]` is maximal.

    Among equally good assignments the one that keeps most of `start` is returned, so units that are
    dead in both networks keep their positions. To that end each position kept adds 1e-12 of the
    largest |similarity|; the sum is therefore short of the optimum by at most n times that.
    The same input always gives the same result; with and without numba, other ties may be broken
    differently.

    Args:
        similarity: Gain of placing source unit `j` at position `i`, shape `(n, n)`.
        start: The current assignment, shape `(n,)`, int64: the closer to the optimum the faster.
            The identity if None.

    Returns:
        Source unit for each position, shape `(n,)`, int64, on the device of `similarity`.

    Raises:
        ParamsError: The matrix is not square or holds NaN or infinity, or `start` is not a
            permutation of its size.

    Example:
        >>> assign(torch.tensor([[0.0, 5.0], [5.0, 1.0]]))
        tensor([1, 0])
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ParamsError(f"similarity has shape {tuple(similarity.shape)}, not (n, n)")
    current = _checked(start, len(similarity))
    gain = similarity.detach().to("cpu", torch.float64).numpy()
    largest = float(max(gain.max(), -gain.min())) if gain.size else 0.0
    if not np.isfinite(largest):
        raise ParamsError(f"similarity of shape {tuple(similarity.shape)} holds NaN or infinity")
    if largest == 0:
        return torch.as_tensor(current, device=similarity.device)
    cost = np.empty(gain.shape)  # row-major, whatever the order of `gain`
    np.negative(gain, out=cost)
    cost[np.arange(len(cost)), current] -= TIE_BREAK * largest
    return torch.as_tensor(_least(cost, current), device=similarity.device)


def _checked(start: Tensor | None, size: int) -> Integers:
    if start is None:
        return np.arange(size)
    current = start.detach().cpu().contiguous().numpy()
    whole = current.dtype.kind == "i" and current.shape == (size,)
    if not whole or not np.array_equal(np.sort(current), np.arange(size)):
        raise ParamsError(
            f"start is not a permutation of {size} units, each once and in integers: "
            f"it has shape {tuple(start.shape)}, {start.dtype}"
        )
    return current.astype(np.int64)  # a copy, so that the answer never shares its memory


def _least(cost: Floats, start: Integers) -> Integers:
    """The column of each row in the assignment of least cost."""
    solve = _compiled() if len(cost) >= COMPILED_FROM else None
    if solve is not None:
        return solve(cost, start, ROUNDS)
    return _reduced(cost, start) if len(cost) >= REDUCED_FROM else _scipy(cost)


@cache
def _compiled() -> Callable[[Floats, Integers, int], Integers] | None:
    """The compiled solver, or None where numba is not installed."""
    try:
        return import_module("symport.matching._shortest_paths").solve
    except ImportError:
        return None


def _reduced(cost: Floats, start: Integers) -> Integers:
    """The same by scipy, on costs reduced by prices near the optimal ones.

    Rows whose entry of `start` is closest to their best offer go first: most are assigned at once,
    and only the remaining few need augmenting paths.
    """
    prices, excess = np.zeros(len(cost)), _excess(cost, start)
    for _ in range(ROUNDS):
        own = _diagonal(cost, start) - prices[start]
        trial = np.minimum(prices, (cost - own[:, None]).min(0))
        left = _excess(cost - trial, start)
        if np.count_nonzero(left) >= np.count_nonzero(excess):
            break
        prices, excess = trial, left
    if not prices.any():
        return _scipy(cost)
    order = np.argsort(excess, kind="stable")
    columns = np.empty_like(start)
    columns[order] = _scipy(cost[order] - prices)
    return columns


def _excess(cost: Floats, start: Integers) -> Floats:
    """How much more each row pays at `start` than at its best."""
    return _diagonal(cost, start) - cost.min(1)


def _diagonal(cost: Floats, start: Integers) -> Floats:
    return cost[np.arange(len(cost)), start]


def _scipy(cost: Floats) -> Integers:
    from scipy.optimize import linear_sum_assignment  # 0.2 s to import, so only where needed

    return cast("Integers", linear_sum_assignment(cost)[1])
