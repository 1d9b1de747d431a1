import pytest
import torch
from cases import present, seeded

from symport.selection import Interval
from symport.selection._intervals import (
    FEWEST,
    RESAMPLES,
    mean_interval,
    resamples,
    too_few,
)


def test_an_interval_covers_the_mean_as_often_as_it_says():
    """Of 200 samples of a known distribution about 95% have its mean inside."""
    draws = torch.randn(200, 40, generator=seeded(0)).double() + 3
    found = [mean_interval(sample) for sample in draws]
    inside = sum(interval.low < 3 < interval.high for interval in found)
    assert 180 <= inside <= 198


@pytest.mark.parametrize("count", [5, 3000])
def test_places_are_drawn_alike_in_pieces_and_at_once(count):
    pieces = list(resamples(count, seed=1))
    drawn = torch.cat(pieces)
    whole = torch.randint(count, (RESAMPLES, count), generator=seeded(1))
    assert torch.equal(drawn, whole)
    assert len(pieces) == (1 if count == 5 else 3)


def test_negated_it_is_the_interval_of_the_negated_values():
    values = torch.randn(50, generator=seeded(2)).double() + 1
    assert -mean_interval(values) == mean_interval(-values)
    assert mean_interval(values).is_positive
    assert (-mean_interval(values)).is_negative


def test_one_number_decides_whether_anything_is_said():
    assert too_few(FEWEST, "held-out examples") is None
    assert "Only 5 held-out examples" in present(too_few(FEWEST - 1, "held-out examples"))
    assert not Interval(0.5, 0.0, 1.0).is_positive
