from dataclasses import replace

import pytest
import torch
from smallscenes import SMALL, TUNED

from symport.data import Labelled
from symport_recipes.experiments import Ensembles, Inheritance, Later
from symport_recipes.experiments._curves import method_of
from symport_recipes.experiments._later import after, best_start, together
from symport_recipes.setups import Bench, draw, network

LATER = replace(SMALL.training, lr=0.05, epochs=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("name", ["naive", "fgmt"])
def test_later_training_starts_from_the_step_that_the_choosing_part_likes_best(name, bench):
    at = draw(SMALL, 0, bench)
    problem, method = at.problem(), method_of(name, at, {})
    state, scores = method.init(problem), [at.accuracy(at.target_init, at.halves.choosing)]
    for step in (1, 2):
        state = method.step(problem, state, step)
        scores.append(at.accuracy(problem.place(state.permutation, step), at.halves.choosing))
    found = best_start(at, name, {})
    assert scores[found.step] == max(scores)
    assert at.accuracy(found.params, at.halves.choosing) == max(scores)


def test_a_transfer_that_only_harms_leaves_the_target_untouched(bench):
    at = draw(SMALL, 0, bench)
    worse = {name: -50 * tensor for name, tensor in at.source.final.items()}
    at = replace(at, target_init=at.source.final, source=replace(at.source, final=worse))
    found = best_start(at, "naive", {})
    assert found.step == 0
    assert found.params is at.target_init


def test_curves_start_at_the_transferred_parameters_and_have_a_point_an_epoch(bench):
    found = Later(scene=SMALL, training=LATER, methods=("naive", "fgmt")).pair(0, bench)
    assert {name: len(scores) for name, scores in found.curves.items()} == {
        "standard": 3, "naive": 2, "fgmt": 2,
    }  # fmt: skip
    at = draw(SMALL, 0, bench)
    begin = best_start(at, "fgmt", {})
    assert found.curves["fgmt"][0] == at.accuracy(begin.params, at.halves.reporting)
    alone = network(SMALL, 100, bench)
    assert found.curves["standard"][-1] == at.accuracy(alone.final, at.halves.reporting)
    assert found.evaluations["fgmt"] == 4


def test_probabilities_are_averaged_and_disagreement_counted_by_hand(bench):
    at = draw(SMALL, 0, bench)
    two_labels = Labelled(torch.zeros(2, 64), torch.tensor([0, 1]))
    at = replace(at, halves=replace(at.halves, reporting=two_labels))
    one = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log()
    two = torch.tensor([[0.4, 0.6], [0.3, 0.7]]).log()
    found = together([one, two], at)
    assert found["accuracy"] == 0.5  # .65 on the first, .6 on the second: both answer 0
    assert found["mean member"] == 0.5
    assert found["disagreement"] == 1
    assert found["NLL"] == pytest.approx(-(torch.tensor([0.65, 0.4]).log().mean().item()))
    assert found["ECE"] == pytest.approx(abs(0.35 - 0.6) / 2)


def test_a_member_joins_the_source_for_each_target(bench):
    found = Ensembles(scene=SMALL, training=LATER, methods=("naive",), members=3).pair(0, bench)
    at = draw(SMALL, 0, bench)
    alone = [network(SMALL, seed, bench).final for seed in (0, 100, 200)]
    mean = sum(at.accuracy(params, at.halves.reporting) for params in alone) / 3
    assert found.shares["standard: mean member"] == pytest.approx(mean)
    assert found.numbers["members"] == 3
    assert (found.numbers["standard: epochs of a target"],
            found.numbers["naive: epochs of a target"]) == (2, 1)  # fmt: skip


def test_inheritance_has_both_bases_transferred_to_and_trained_alone(bench):
    poor = replace(TUNED, base=replace(SMALL, share=0.1))
    found = Inheritance(good=TUNED, poor=poor, training=LATER).pair(0, bench)
    assert list(found.curves) == [
        "fgmt, poor to good base", "standard from good base",
        "fgmt, poor to poor base", "standard from poor base",
    ]  # fmt: skip
    at = draw(TUNED, 0, bench, source_scene=poor)
    run = after(TUNED, best_start(at, "fgmt", {}), LATER, 100, bench)
    assert found.curves["fgmt, poor to good base"] == run.scores
    assert found.shares["good base, on its data"] > found.shares["poor base, on its data"]
