from functools import partial

import pytest
import torch

from symport_recipes.experiments._choosing import WAYS, page
from symport_recipes.experiments._choosing import Outcome as Choice
from symport_recipes.experiments._choosing import run_one as choose_one
from symport_recipes.experiments._demo import COLUMNS, Outcome, picture, run_one, table, verdict
from symport_recipes.networks import digits_mlp, mlp
from symport_recipes.runner import mean_sd
from symport_recipes.setups import _digits as setup
from symport_recipes.setups import digits_scene

NETWORKS = [
    pytest.param(partial(mlp, [64, 64, 64, 10]), id="an eighth of the width"),
    pytest.param(digits_mlp, id="the network of the page", marks=pytest.mark.slow),
]


def outcome(seed: int, labels: int, fgmt: float, direct: float) -> Outcome:
    accuracy = dict.fromkeys(COLUMNS, 0.5) | {"fgmt": fgmt, "direct": direct}
    return Outcome(seed, labels, 0.95, accuracy)


def test_no_label_is_on_two_sides(monkeypatch):
    """Source, target's side and test set share no digit; more labels include the fewer."""
    monkeypatch.setattr(setup, "digits_mlp", partial(mlp, [64, 8, 10]))  # not looked at
    few, many = digits_scene(labels=20), digits_scene(labels=1000)
    assert len(few.hand) == 20
    assert torch.equal(few.hand.inputs, many.hand.inputs[:20])
    test = {tuple(row) for row in many.test.inputs.tolist()}
    assert not test & {tuple(row) for row in many.hand.inputs.tolist()}
    assert len(test) == len(many.test) == 397


@pytest.mark.parametrize("network", NETWORKS)
def test_with_twenty_labels_the_transfer_beats_direct_training(network, monkeypatch):
    monkeypatch.setattr(setup, "digits_mlp", network)
    found = run_one(seed=0, labels=20).accuracy
    assert found["fgmt"] > found["direct"] + 0.1
    assert found["fgmt"] > found["naive"] > found["untouched"]


def test_the_verdict_names_the_winner_and_says_when_seeds_disagree():
    outcomes = [
        outcome(0, 20, 0.9, 0.6), outcome(1, 20, 0.92, 0.64),
        outcome(0, 100, 0.93, 0.9), outcome(1, 100, 0.90, 0.91),
        outcome(0, 1000, 0.94, 0.98), outcome(1, 1000, 0.95, 0.97),
    ]  # fmt: skip
    assert verdict(outcomes) == (
        "With 20 labels the transfer is better by 29.0 points. "
        "With 100 labels the transfer is better by 1.0 points on average, but not for every seed. "
        "With 1000 labels direct training is better by 3.0 points."
    )
    assert [row[0] for row in table(outcomes)] == ["20", "100", "1000"]
    assert picture(outcomes).startswith(b"\x89PNG")


@pytest.mark.parametrize("network", NETWORKS)
def test_every_way_to_choose_is_scored_on_the_test_set(network, monkeypatch):
    monkeypatch.setattr(setup, "digits_mlp", network)
    found = choose_one(seed=0, labels=20)
    assert set(found.accuracy) == set(WAYS)
    assert found.accuracy["best possible"] >= max(found.accuracy.values()) - 0.02


def test_the_page_on_choosing_has_a_row_for_each_number_of_labels():
    outcomes = [Choice(seed, n, dict.fromkeys(WAYS, 0.5)) for n in (20, 100) for seed in (0, 1)]
    rows = [line for line in page(outcomes).splitlines() if line.startswith(("| 20", "| 100"))]
    assert rows == [
        f"| {n} | " + " | ".join([mean_sd([0.5, 0.5])] * len(WAYS)) + " |" for n in (20, 100)
    ]
