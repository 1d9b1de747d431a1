from dataclasses import replace

import pytest
from smallscenes import SMALL

from symport.params import interpolate
from symport_recipes.experiments import DisplacementScales, OtherStarts
from symport_recipes.setups import Bench, draw

ANEW = Bench()
SCENE = replace(SMALL, steps=2)


def test_the_line_goes_from_the_source_to_where_the_transfer_ends():
    found = OtherStarts(scenes={"a": SCENE}, methods=("naive", "fgmt"), points=3).pair(0, ANEW)
    at = draw(SCENE, 0, ANEW)
    end = {
        name: init + at.source.final[name] - at.source.init[name]
        for name, init in at.target_init.items()
    }
    half = interpolate(at.source.final, end, 0.5)
    expected = [at.accuracy(params) for params in (at.source.final, half, end)]
    assert found.x == [0, 0.5, 1]
    assert found.curves["a, naive"] == pytest.approx(expected, abs=0.01)
    assert found.curves["a, fgmt"][0] == pytest.approx(expected[0], abs=0.01)


def test_a_target_that_starts_where_the_source_did_loses_nothing():
    ring = replace(SCENE, ring=1)  # the only network is its own target
    found = OtherStarts(scenes={"a": ring}, methods=("naive", "oracle"), points=3).pair(0, ANEW)
    for curve in found.curves.values():
        assert max(curve) - min(curve) < 0.01


def test_lengths_multiply_the_whole_displacement():
    found = DisplacementScales(scene=SCENE, lengths=(1.0, 2.0), methods=("naive",)).pair(0, ANEW)
    at = draw(SCENE, 0, ANEW)
    for length, value in zip(found.x, found.curves["naive"], strict=True):
        moved = {
            name: init + length * (at.source.final[name] - at.source.init[name])
            for name, init in at.target_init.items()
        }
        assert value == pytest.approx(at.accuracy(moved), abs=0.01)
