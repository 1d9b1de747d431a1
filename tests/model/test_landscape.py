import math

import numpy as np
import pytest
import torch
from torch import Tensor

from symport.errors import ParamsError, SettingsError
from symport.model import LandscapeCurve, barrier, barrier_of, interpolation_curve, plane


def point(*values: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64), "count": torch.tensor(3)}


def curve_of(*values: float) -> LandscapeCurve:
    return LandscapeCurve(tuple(np.linspace(0, 1, len(values)).tolist()), values)


def test_a_curve_scores_networks_on_the_straight_line():
    a, b = point(1.0, 2.0), point(3.0, -2.0)
    seen: list[list[float]] = []

    def score(params) -> float:
        seen.append(params["w"].tolist())
        return float(params["w"].sum())

    curve = interpolation_curve(score, a, b, points=5)
    assert curve.fractions == (0, 0.25, 0.5, 0.75, 1)
    np.testing.assert_allclose(seen, np.linspace((1.0, 2.0), (3.0, -2.0), 5))
    np.testing.assert_allclose(curve.values, np.linspace(3, 1, 5))


def test_a_curve_starts_and_ends_at_the_very_networks():
    a, b = {"w": torch.tensor([0.1])}, {"w": torch.tensor([0.7])}
    curve = interpolation_curve(lambda params: float(params["w"]), a, b, points=7)
    assert (curve.values[0], curve.values[-1]) == (float(a["w"]), float(b["w"]))


@pytest.mark.parametrize(
    ("reference", "value", "at"),
    # losses 1, 4, 4, 3: the line between the ends is 1, 5/3, 7/3, 3
    [("linear", 4 - 5 / 3, 1 / 3), ("mean", 4 - 2, 1 / 3), ("max", 4 - 3, 1 / 3)],
)
def test_a_barrier_by_hand(reference, value: float, at: float):
    found = barrier_of(curve_of(1.0, 4.0, 4.0, 3.0), reference=reference)
    assert (found.value, found.at) == (pytest.approx(value), pytest.approx(at))
    assert found.reference == reference


def test_the_references_agree_between_equally_good_ends():
    curve = curve_of(2.0, 3.0, 5.0, 2.5, 2.0)
    values = {barrier_of(curve, reference=r).value for r in ("linear", "mean", "max")}
    assert values == {3.0}


@pytest.mark.parametrize(("reference", "value"), [("linear", 0), ("mean", 1.5), ("max", 0)])
def test_a_steady_descent_has_a_barrier_over_the_mean_only(reference, value: float):
    assert barrier_of(curve_of(4.0, 2.0, 1.0, 1.0), reference=reference).value == value


def test_a_barrier_of_a_known_landscape():
    # A double well with minima at ±1 and a hill of height 1 between them.
    def loss(params) -> float:
        return float((params["w"] ** 2 - 1) ** 2)

    found = barrier(loss, point(-1.0), point(1.0), points=21)
    assert found.value == pytest.approx(1)
    assert found.at == 0.5
    assert found.curve.values[0] == found.curve.values[-1] == 0
    assert len(found.curve.values) == 21


def test_a_permuted_network_has_a_barrier_that_aligning_it_removes():
    # f(x) = relu(x) − relu(−x), written with its units in either order.
    inputs = torch.linspace(-2, 2, 9, dtype=torch.float64)

    def network(first: float, second: float) -> dict[str, Tensor]:
        return {
            "in": torch.tensor([first, second], dtype=torch.float64),
            "out": torch.tensor([first, second], dtype=torch.float64),
        }

    def loss(params) -> float:
        outputs = torch.relu(inputs[:, None] * params["in"]) @ params["out"]
        return float((outputs - inputs).square().mean())

    a, b = network(1.0, -1.0), network(-1.0, 1.0)
    assert loss(a) == loss(b) == 0
    assert barrier(loss, a, b).value == pytest.approx(float(inputs.square().mean()))
    assert barrier(loss, a, {name: tensor.flip(0) for name, tensor in b.items()}).value == 0


def test_an_endless_loss_on_the_way_is_an_endless_barrier():
    assert barrier_of(curve_of(1.0, math.inf, 1.0)).value == math.inf


def test_losses_that_are_not_numbers_are_refused():
    with pytest.raises(ParamsError, match=r"the score at fraction 0\.5 is NaN; check"):
        barrier(lambda params: math.nan if float(params["w"]) == 0 else 1.0, point(-1), point(1))
    with pytest.raises(ParamsError, match="losses at the ends, inf and 1, must be finite"):
        barrier_of(curve_of(math.inf, 1.0, 1.0))


def test_networks_that_differ_in_shape_are_refused():
    with pytest.raises(ParamsError, match=r"w: its shape is \(1,\) in the network at 0, \(2,\)"):
        barrier(lambda _: 0.0, point(1.0), point(1.0, 2.0))


def test_options_out_of_range_are_refused_before_anything_is_scored():
    def never(_) -> float:
        raise AssertionError

    with pytest.raises(SettingsError, match="points must be at least 2, for the two ends, not 1"):
        barrier(never, point(1.0), point(2.0), points=1)
    with pytest.raises(SettingsError, match="'linear', 'mean' or 'max', not 'min'"):
        barrier(never, point(1.0), point(2.0), reference="min")  # pyright: ignore[reportArgumentType]  # refused
    with pytest.raises(SettingsError, match=r"3 corners, points >= 2 and .*not 2 corners"):
        plane(never, [point(1.0), point(2.0)])
    with pytest.raises(SettingsError, match="points=1"):
        plane(never, [point(1.0)] * 3, points=1)
    with pytest.raises(SettingsError, match="margin=-1"):
        plane(never, [point(1.0)] * 3, margin=-1)


# The plane


CORNERS = [point(1.0, 0.0, 2.0), point(4.0, 4.0, 2.0), point(1.0, 0.0, 7.0)]  # 3-4-5, then up


def test_the_corners_keep_their_distances():
    found = plane(lambda _: 0.0, CORNERS, points=2)
    np.testing.assert_allclose(found.corners, [(0, 0), (5, 0), (0, 5)], atol=1e-14)
    generator = torch.Generator().manual_seed(0)
    three = [{"w": torch.randn(4, 3, generator=generator, dtype=torch.float64)} for _ in range(3)]
    corners = plane(lambda _: 0.0, three, points=2).corners
    for i in range(3):
        for j in range(i):
            expected = float((three[i]["w"] - three[j]["w"]).norm())
            assert math.dist(corners[i], corners[j]) == pytest.approx(expected)
    assert corners[2][1] > 0


def test_grid_points_are_networks_of_the_plane_by_formula():
    seen: list[list[float]] = []

    def score(params) -> float:
        seen.append(params["w"].tolist())
        return len(seen)

    found = plane(score, CORNERS, points=3, margin=0)
    assert found.x == found.y == pytest.approx((0, 2.5, 5))
    expected = [
        np.array([1, 0, 2]) + x / 5 * np.array([3, 4, 0]) + y / 5 * np.array([0, 0, 5])
        for y in (0, 2.5, 5)
        for x in (0, 2.5, 5)
    ]
    np.testing.assert_allclose(seen, expected, atol=1e-14)
    assert found.values == ((1, 2, 3), (4, 5, 6), (7, 8, 9))


def test_scores_at_the_corners_are_those_of_the_networks():
    def score(params) -> float:
        return float(params["w"].sin().sum())

    found = plane(score, CORNERS, points=2, margin=0)
    first, second, third = (score(corner) for corner in CORNERS)
    assert found.values[0] == pytest.approx((first, second))
    assert found.values[1] == pytest.approx((third, score(point(4.0, 4.0, 7.0))))


def test_counts_are_those_of_the_first_network():
    counts: set[int] = set()
    others = [{**corner, "count": torch.tensor(9)} for corner in CORNERS[1:]]
    plane(lambda params: counts.add(int(params["count"])) or 0.0, [CORNERS[0], *others], points=2)
    assert counts == {3}


def test_the_margin_is_a_share_of_the_extent():
    found = plane(lambda _: 0.0, CORNERS, points=5, margin=0.1)
    assert (found.x[0], found.x[-1]) == (pytest.approx(-0.5), pytest.approx(5.5))
    assert (found.y[0], found.y[-1]) == (pytest.approx(-0.5), pytest.approx(5.5))
    obtuse = [point(0.0, 0.0), point(1.0, 0.0), point(-3.0, 1.0)]
    assert plane(lambda _: 0.0, obtuse, points=2, margin=0).x == pytest.approx((-3, 1))


@pytest.mark.parametrize(
    "third", [point(7.0, 8.0, 2.0), point(1.0, 0.0, 2.0), point(1 + 3e-9, 4e-9, 2 + 1e-16)]
)
def test_networks_on_one_line_span_no_plane(third):
    with pytest.raises(ParamsError, match="lie on one line"):
        plane(lambda _: 0.0, [CORNERS[0], CORNERS[1], third])
    with pytest.raises(ParamsError, match="lie on one line"):
        plane(lambda _: 0.0, [CORNERS[0], CORNERS[0], CORNERS[2]])


def test_a_plane_says_where_its_score_failed():
    with pytest.raises(ParamsError, match=r"the score at \(-1\.25, -1\.25\) is NaN"):
        plane(lambda _: math.nan, CORNERS)
    with pytest.raises(
        ParamsError, match=r"w: its shape is \(3,\) in the first network, \(1,\) in"
    ):
        plane(lambda _: 0.0, [CORNERS[0], CORNERS[1], point(1.0)])
