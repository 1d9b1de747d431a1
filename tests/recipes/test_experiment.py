import json
from dataclasses import replace

import pytest
import torch

from symport.errors import FileError
from symport_recipes.experiment import (
    Experiment,
    Outcome,
    curves,
    mean_sd,
    picture,
    read_outcome,
    run,
    run_pair,
    table,
)
from symport_recipes.figures import FIGURES, figure_5_mnist, smoke
from symport_recipes.models import mlp
from symport_recipes.training import TrainSettings


def small() -> Experiment:
    return replace(
        smoke(), model=lambda: mlp([64, 24, 10]), training=TrainSettings(epochs=1, lr=0.1), steps=2
    )


def outcome(seed: int, last: float) -> Outcome:
    steps = {name: [0.1, 0.5, last] for name in ("naive", "oracle", "gmt", "fgmt")}
    counts = {"naive": 0, "oracle": 0, "gmt": 4, "fgmt": 4}
    return Outcome(seed, steps, 0.9, 0.9, 0.2, counts, dict.fromkeys(steps, 1.0), 3.0, {})


def test_a_pair_scores_every_step_of_every_method():
    found = run_pair(small(), seed=0)
    assert {name: len(scores) for name, scores in found.steps.items()} == {
        "naive": 3, "oracle": 3, "gmt": 3, "fgmt": 3,
    }  # fmt: skip
    assert len({scores[0] for scores in found.steps.values()}) == 1  # the same untouched target
    assert found.evaluations["naive"] == 0
    assert found.evaluations["fgmt"] == 4
    assert found.evaluations["gmt"] <= 2 * 3


def test_a_pair_is_reproducible():
    first, second = (run_pair(small(), seed=1) for _ in range(2))
    assert first.steps == second.steps
    assert first.direct == second.direct


def test_pairs_that_are_done_are_not_run_again(tmp_path):
    run(small(), tmp_path, range(1), progress=False)
    path = tmp_path / "seed-0.json"
    marked = {**json.loads(path.read_text()), "direct": 0.123}
    path.write_text(json.dumps(marked))
    outcomes = run(small(), tmp_path, range(2), progress=False)
    assert [o.seed for o in outcomes] == [0, 1]
    assert outcomes[0].direct == 0.123


def test_a_file_that_is_no_outcome_is_refused(tmp_path):
    for text in ("{", "[]", '{"seed": 1}'):
        (tmp_path / "seed-0.json").write_text(text)
        with pytest.raises(FileError, match="not the outcome of an experiment"):
            read_outcome(tmp_path / "seed-0.json")


def test_the_table_has_mean_and_spread_beside_the_published_number():
    experiment = replace(figure_5_mnist(), steps=2)
    rows = table(experiment, [outcome(0, 0.8), outcome(1, 0.9)])
    assert rows[3] == [
        "fgmt", "10.00 ± 0.00", "50.00 ± 0.00", "85.00 ± 7.07", "97.94", "4",
    ]  # fmt: skip


def test_mean_and_spread_follow_numpy():
    values = [0.1, 0.25, 0.7]
    tensor = 100 * torch.tensor(values, dtype=torch.float64)
    assert mean_sd(values) == f"{tensor.mean():.2f} ± {tensor.std():.2f}"
    assert mean_sd([0.5]) == "50.00 ± 0.00"


def test_curves_and_picture_are_drawn():
    outcomes = [outcome(0, 0.8), outcome(1, 0.9)]
    assert curves(outcomes)["naive"].y == pytest.approx([0.1, 0.5, 0.85])
    assert picture({"a": outcomes, "b": outcomes}).startswith(b"\x89PNG")


def test_the_settings_of_figure_5_are_the_printed_ones():
    experiment = FIGURES["fig5-mnist-lr0.01"]
    assert (experiment.training.epochs, experiment.training.lr) == (15, 0.01)
    assert (experiment.steps, experiment.batch_size) == (5, 128)
    assert experiment.training.momentum == 0.9
    assert experiment.training.weight_decay == 0
    sizes = [tuple(p.shape) for p in experiment.model().parameters()]
    assert sizes == [(4096, 784), (4096,), (10, 4096), (10,)]
