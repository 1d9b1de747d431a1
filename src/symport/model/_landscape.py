"""The loss between networks: along the straight line through two, on the plane through three."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from symport.errors import ParamsError, SettingsError
from symport.params import Params, add, check_same_structure, inner, interpolate, norm, subtract

Score: TypeAlias = Callable[[Params], float]
Reference: TypeAlias = Literal["linear", "mean", "max"]
Point: TypeAlias = tuple[float, float]

FLAT = 1e-5  # sine of an angle below which float32 rounding errors would determine the plane


@dataclass(frozen=True)
class LandscapeCurve:
    """Scores along the straight line from one network to another.

    Attributes:
        fractions: The fractions λ of the way, from 0 to 1.
        values: The score at each.
    """

    fractions: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Barrier:
    """How far the loss rises between two networks.

    Attributes:
        value: Largest rise above the reference, at least 0, in units of the loss.
        at: The fraction λ where it is first reached.
        reference: The level from which the rise is measured.
        curve: All losses along the line.
    """

    value: float
    at: float
    reference: Reference
    curve: LandscapeCurve


@dataclass(frozen=True)
class LandscapePlane:
    """Scores on a grid in the plane through three networks.

    Coordinates are distances between parameters; the first axis runs through two of the networks.

    Attributes:
        x: Grid coordinates along the first axis, ascending.
        y: Grid coordinates along the second axis, ascending.
        values: One row for each `y`, with one score for each `x`.
        corners: Where the three networks lie, in the order in which they were given.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    corners: tuple[Point, Point, Point]


def interpolation_curve(score: Score, a: Params, b: Params, *, points: int = 11) -> LandscapeCurve:
    """Score the networks (1−λ)a + λb for evenly spaced λ from 0 to 1.

    Args:
        score: A loss or an accuracy; with BatchNorm it should re-estimate the statistics first.
        a: The network at λ = 0.
        b: The network at λ = 1.
        points: Number of networks, at least 2, both ends included.

    Raises:
        ParamsError: The networks differ in names, shapes or dtypes, or a score is NaN.
        SettingsError: `points` is below 2.

    Example:
        >>> import torch
        >>> ends = {"w": torch.tensor(-1.0)}, {"w": torch.tensor(1.0)}
        >>> interpolation_curve(lambda params: float(params["w"] ** 2), *ends, points=3).values
        (1.0, 0.0, 1.0)
    """
    if points < 2:
        raise SettingsError(f"points must be at least 2, for the two ends, not {points}")
    check_same_structure(a, b, "the network at 0", "the network at 1")
    fractions = _grid(0, 1, points)
    values = (_scored(score, interpolate(a, b, f), f"fraction {f:g}") for f in fractions)
    return LandscapeCurve(fractions, tuple(values))


def barrier(
    loss: Score, a: Params, b: Params, *, points: int = 11, reference: Reference = "linear"
) -> Barrier:
    """How far the loss rises on the straight line between two networks.

    Args:
        loss: Lower is better; for an accuracy, pass its complement. With BatchNorm it should
            re-estimate the statistics first (Jordan et al. 2023).
        a: The network at λ = 0.
        b: The network at λ = 1.
        points: Number of networks on the line, at least 2, both ends included.
        reference: The level from which a rise is measured; all three agree if the ends have
            equal losses.
            `"linear"`: (1−λ)L(a) + λL(b), as in Entezari et al. (2022). `"mean"`: ½L(a) + ½L(b),
            as in Frankle et al. (2020) and Ainsworth et al. (2023). `"max"`: the worse end, so 0
            if no network on the line is worse than both.

    Raises:
        ParamsError: The networks differ in names, shapes or dtypes, a loss is NaN, or the loss of
            an end is infinite.
        SettingsError: `points` or `reference` is out of range.

    Example:
        >>> import torch
        >>> ends = {"w": torch.tensor(-1.0)}, {"w": torch.tensor(1.0)}
        >>> found = barrier(lambda params: 3 - float(params["w"] ** 2), *ends)
        >>> found.value, found.at
        (1.0, 0.5)
    """
    _check_reference(reference)
    return barrier_of(interpolation_curve(loss, a, b, points=points), reference=reference)


def barrier_of(curve: LandscapeCurve, *, reference: Reference = "linear") -> Barrier:
    """The barrier on a curve of losses.

    Args:
        curve: Losses along a straight line, with finite ends.
        reference: The level from which a rise is measured, as in `barrier`.

    Raises:
        ParamsError: The loss of an end is not finite.
        SettingsError: `reference` is none of the three.

    Example:
        >>> barrier_of(LandscapeCurve((0.0, 0.5, 1.0), (1.0, 4.0, 2.0)), reference="max").value
        2.0
    """
    _check_reference(reference)
    first, last = curve.values[0], curve.values[-1]
    if not (math.isfinite(first) and math.isfinite(last)):
        raise ParamsError(f"the losses at the ends, {first:g} and {last:g}, must be finite")
    levels = {
        "linear": [(1 - f) * first + f * last for f in curve.fractions],
        "mean": [(first + last) / 2] * len(curve.values),
        "max": [max(first, last)] * len(curve.values),
    }
    rises = [value - level for value, level in zip(curve.values, levels[reference], strict=True)]
    return Barrier(max(rises), curve.fractions[rises.index(max(rises))], reference, curve)


def plane(
    score: Score, corners: Sequence[Params], *, points: int = 21, margin: float = 0.25
) -> LandscapePlane:
    """Score a grid of networks in the plane through three (as Chijiwa 2024, Fig. 7).

    The first axis points from the first network to the second, the other one at a right angle to
    it towards the third (Gram-Schmidt, as in Garipov et al. 2018), so that distances in the
    picture are distances between parameters.

    Args:
        score: A loss or an accuracy; with BatchNorm it should re-estimate the statistics first.
        corners: Three networks that do not lie on one line.
        points: Grid points along each axis, at least 2; `points`² scores are computed.
        margin: How far the grid reaches beyond the three networks on every side, as a share of
            their extent along that axis, at least 0.

    Raises:
        ParamsError: The networks differ in names, shapes or dtypes, or lie on one line, or a score
            is NaN.
        SettingsError: There are not three networks, or an option is out of range.

    Example:
        >>> import torch
        >>> corners = [{"w": torch.tensor(w)} for w in ([0.0, 0.0], [4.0, 0.0], [1.0, 2.0])]
        >>> found = plane(lambda params: float(params["w"].sum()), corners, points=2, margin=0)
        >>> found.x, found.y, found.values
        ((0.0, 4.0), (0.0, 2.0), ((0.0, 4.0), (2.0, 6.0)))
    """
    if len(corners) != 3 or points < 2 or margin < 0:
        given = f"{len(corners)} corners, points={points}, margin={margin}"
        raise SettingsError(f"a plane takes 3 corners, points >= 2 and margin >= 0, not {given}")
    origin, second, third = corners
    check_same_structure(origin, second, "the first network", "the second")
    check_same_structure(origin, third, "the first network", "the third")
    u, v = subtract(second, origin), subtract(third, origin)
    width, reach = norm(u), norm(v)
    foot = inner(u, v) / width if width else 0.0
    w = add(v, u, -foot / width) if width else v
    height = norm(w)
    if not width or height <= FLAT * reach:
        raise ParamsError("the three networks lie on one line: they do not span a plane")
    x = _grid(*_widened(min(0.0, foot), max(width, foot), margin), points)
    y = _grid(*_widened(0.0, height, margin), points)
    values: list[tuple[float, ...]] = []
    for j in y:
        base = add(origin, w, j / height)
        row = (_scored(score, add(base, u, i / width), f"({i:g}, {j:g})") for i in x)
        values.append(tuple(row))
    return LandscapePlane(x, y, tuple(values), ((0.0, 0.0), (width, 0.0), (foot, height)))


def _check_reference(reference: str) -> None:
    if reference not in ("linear", "mean", "max"):
        raise SettingsError(f"reference must be 'linear', 'mean' or 'max', not {reference!r}")


def _scored(score: Score, params: Params, where: str) -> float:
    value = float(score(params))
    if math.isnan(value):
        raise ParamsError(f"the score at {where} is NaN; check the networks and the data")
    return value


def _grid(low: float, high: float, points: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * (k / (points - 1)) for k in range(points))


def _widened(low: float, high: float, margin: float) -> Point:
    return low - margin * (high - low), high + margin * (high - low)
