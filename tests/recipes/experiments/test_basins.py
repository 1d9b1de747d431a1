from dataclasses import replace

import pytest
from cases import present
from smallscenes import SMALL

from symport.model import nll, predict
from symport_recipes.experiments import Basins
from symport_recipes.setups import Bench, draw, network


def test_barriers_start_at_the_trained_target_and_the_permuted_source_keeps_its_function(tmp_path):
    bench = Bench(tmp_path)
    experiment = Basins(
        scene=SMALL, training=replace(SMALL.training, epochs=1), points=3, examples=60
    )
    found = experiment.pair(0, bench)
    at, target = draw(SMALL, 0, bench), network(SMALL, 100, bench).final
    held = at.halves.reporting
    loss = nll(predict(at.model, target, held.inputs[:60]), held.labels[:60])
    assert [values[0] for values in found.curves.values()] == pytest.approx([loss] * 3)
    assert found.shares["permuted source"] == found.shares["source"]
    assert found.curves["permuted source"][-1] == pytest.approx(found.curves["source"][-1])
    for name, values in found.curves.items():
        middle = values[1] - (values[0] + values[2]) / 2
        assert found.numbers[f"barrier to {name}"] == pytest.approx(max(0, middle), abs=1e-6)
    assert found.numbers["barrier to permuted source"] < found.numbers["barrier to source"]
    plane = present(found.plane)
    assert len(plane.values) == len(plane.values[0]) == 3
