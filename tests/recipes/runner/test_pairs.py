import json
from dataclasses import dataclass
from typing import Any

import pytest
from cases import present

from symport.errors import FileError
from symport.model import LandscapePlane
from symport_recipes.runner import Found, PairExperiment, read_outcomes, run
from symport_recipes.runner._pairs import read_outcome
from symport_recipes.setups import Bench


@dataclass(frozen=True)
class Dice(PairExperiment):
    """Gives the seed back."""

    sides: int = 6

    def pair(self, seed: int, bench: Bench) -> Found:
        plane = LandscapePlane((0.0, 1.0), (0.0,), ((seed, 0.5),), ((0, 0), (1, 0), (0, 1)))
        curves = {"up": [0.0, seed / 3]}
        return Found(x=[1, 2], curves=curves, numbers={"seed": seed}, plane=plane)

    def summary(self) -> dict[str, Any]:
        return {"sides": self.sides, "rate": 1 / 3}


def done(folder, seeds, experiment=None):
    return run(experiment or Dice(), folder / "dice" / "smoke", seeds, Bench(), progress=False)


def test_what_is_written_can_be_read(tmp_path):
    (outcome,) = done(tmp_path, [2])
    assert outcome.seed == 2
    assert outcome.found.curves == {"up": [0.0, 0.666667]}
    assert present(outcome.found.plane).values == [[2, 0.5]]
    assert outcome.settings == {"sides": 6, "rate": 0.333333}
    assert {"torch", "symport", "python", "device", "seconds"} <= outcome.environment.keys()


def test_pairs_that_are_done_are_not_run_again(tmp_path):
    done(tmp_path, [0])
    path = tmp_path / "dice" / "smoke" / "seed-0.json"
    marked = json.loads(path.read_text())
    marked["found"]["numbers"] = {"seed": 77}
    path.write_text(json.dumps(marked))
    assert [o.found.numbers["seed"] for o in done(tmp_path, [0, 1])] == [77, 1]


def test_pairs_of_several_machines_are_put_together_by_seed(tmp_path):
    for seed in (10, 2):
        done(tmp_path, [seed])
    assert [o.seed for o in read_outcomes(tmp_path / "dice" / "smoke")] == [2, 10]
    assert read_outcomes(tmp_path / "nothing") == []


def test_results_of_other_settings_are_not_mixed(tmp_path):
    done(tmp_path, [0])
    with pytest.raises(FileError, match=r"seed-0\.json: was made with other settings"):
        done(tmp_path, [0], Dice(sides=20))


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 1}', '{"found": {"odd": 1}}'])
def test_a_file_that_is_no_outcome_is_refused(text, tmp_path):
    (tmp_path / "seed-0.json").write_text(text)
    with pytest.raises(FileError, match="not the outcome of an experiment"):
        read_outcome(tmp_path / "seed-0.json")
