import math

import pytest
import torch
from cases import present, seeded
from nets import labelled, planted_target, same, source, spec, weights
from nets_port import RULES, loss_of, selection_problem
from torch.nn import functional

from symport.data import ShuffledBatches, stratified_folds
from symport.errors import SettingsError
from symport.methods import FGMT, Candidate, Identity, transfer
from symport.model import LossGradient, train_directly
from symport.params import add
from symport.selection import evaluation_steps, select
from symport.spec import Permutation, permute


def noisy_target():
    """The old base in another order, and not quite."""
    target, _ = planted_target()
    return {n: t + 0.02 * torch.randn(t.shape, generator=seeded(3)) for n, t in target.items()}


def test_every_candidate_is_what_its_name_says(tmp_path):
    start = noisy_target()
    found = select(selection_problem(start), RULES, folder=tmp_path)
    data, test = labelled(24), labelled(60, seed=7)
    plans = found.plans

    def placed(method, plan):
        choice = Candidate(plan.step, plan.scale)
        return transfer(source(3), start, spec(), method, choice=choice).params

    slope = LossGradient(
        selection_problem().model, functional.cross_entropy, [(data.inputs, data.labels)]
    )
    transferred = placed(FGMT(slope, normalize=True), plans["transfer"])
    drawn = ShuffledBatches(data, size=10, count=4, seed=0)
    steps = LossGradient(selection_problem().model, functional.cross_entropy, drawn)

    def trained(start, plan):
        return train_directly(steps, start, steps=plan.training.steps, lr=plan.training.lr)

    assert plans["then direct"].kind == "method"
    expected = {
        "untouched": start,
        "identity": placed(Identity(), plans["identity"]),
        "transfer": transferred,
        "direct": trained(start, plans["direct"]),
        "then direct": trained(transferred, plans["then direct"]),
    }
    assert found.evaluated.keys() == expected.keys()
    for name, evaluated in found.evaluated.items():
        assert evaluated.loss == pytest.approx(loss_of(expected[name], test), rel=1e-5)
    assert all(
        torch.allclose(found.tensors[n], t, atol=1e-6) for n, t in expected[found.pick].items()
    )
    assert found.source_start.loss == pytest.approx(loss_of(weights(1), test))
    assert found.source_end.loss == pytest.approx(loss_of(source(3)[3], test))


def test_losses_of_cross_validation_are_of_examples_that_were_left_out(tmp_path):
    """The direct training's curve at one learning rate, written out fold by fold."""
    found = select(selection_problem(), RULES, folder=tmp_path)
    data, expected = labelled(24), dict.fromkeys((0, 1, 2, 4), 0.0)
    for fold in stratified_folds(data.labels, 2, seeded(0)):
        known, left = data.take(fold.train), data.take(fold.held_out)
        drawn = ShuffledBatches(known, size=10, count=4, seed=0)
        slope = LossGradient(selection_problem().model, functional.cross_entropy, drawn)
        for mark in expected:
            params = train_directly(slope, weights(2), steps=mark, lr=1e-2)
            expected[mark] += loss_of(params, left) * len(left) / len(data)
    curve = present(found.plans["direct"].training).curves[1e-2]
    assert curve == pytest.approx(expected, rel=1e-5)
    assert found.plans["untouched"].loss == pytest.approx(expected[0], rel=1e-5)
    assert min(curve.values()) >= present(found.plans["direct"].loss)


def test_the_pick_has_the_least_cross_validated_loss(tmp_path):
    found = select(selection_problem(), RULES, folder=tmp_path)
    assert found.plans[found.pick].loss == min(present(plan.loss) for plan in found.plans.values())


def test_a_base_in_another_order_gets_the_whole_fine_tune(tmp_path):
    target, permutation = planted_target()
    found = select(
        selection_problem(target), RULES.model_copy(update={"folds": 0}), folder=tmp_path
    )
    assert found.pick == "transfer"
    moved = add(target, permute(source(3).displacement(3), spec(), permutation, partial=True))
    assert all(torch.allclose(found.tensors[n], moved[n], atol=1e-6) for n in moved)
    assert found.evaluated["transfer"].loss == pytest.approx(found.source_end.loss, rel=1e-5)


def test_the_old_base_itself_wants_the_identity(tmp_path):
    rules = RULES.model_copy(update={"direct_steps": 0})
    found = select(selection_problem(weights(1)), rules, folder=tmp_path)
    assert found.pick == "identity"
    assert found.plans["identity"].loss == pytest.approx(found.plans["transfer"].loss)


def test_a_permutation_found_elsewhere_takes_the_place_of_matching(tmp_path):
    target, permutation = planted_target()
    found = select(selection_problem(target), RULES, folder=tmp_path, given=permutation)
    assert present(found.plans["transfer"].loss) < present(found.plans["identity"].loss)
    identity = Permutation.identity(spec())
    alone = select(selection_problem(target), RULES, folder=tmp_path / "i", given=identity)
    assert list(alone.plans) == ["untouched", "identity", "direct", "then direct"]


def test_larger_scales_of_the_identity_are_candidates_too(tmp_path):
    found = select(selection_problem(), RULES, folder=tmp_path)
    longer = add(weights(2), source(3).displacement(3), 1.5)
    scores = {(c.kind, c.step, c.scale): c.score for c in found.scored}
    expected = -loss_of(longer, labelled(24))
    assert scores["identity", 3, 1.5] == pytest.approx(expected, rel=1e-5)


def test_training_that_has_long_stopped_helping_is_cut_short(tmp_path):
    """At such a rate Adam leaves the valley at once: only the first few losses are evaluated."""
    rules = RULES.model_copy(update={"direct_steps": 64, "learning_rates": (3.0,)})
    found = select(selection_problem(source(3)[3]), rules, folder=tmp_path)
    training = present(found.plans["direct"].training)
    assert training.steps == 0
    assert list(training.curves[3.0]) == [0, 1, 2]
    assert evaluation_steps(64) == [0, 1, 2, 4, 8, 16, 32, 64]


def test_a_selection_goes_on_where_it_was_stopped(tmp_path):
    calls, deadly = [], math.inf

    def counted(outputs, labels):
        calls.append(1)
        if len(calls) == deadly:
            raise KeyboardInterrupt
        return functional.cross_entropy(outputs, labels, reduction="none")

    problem = selection_problem(losses=counted)
    whole = select(problem, RULES, folder=tmp_path / "whole")
    needed, deadly = len(calls), 0.7 * len(calls) // 1
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        select(problem, RULES, folder=tmp_path / "broken")
    calls.clear()
    deadly = math.inf
    resumed = select(problem, RULES, folder=tmp_path / "broken")
    assert same(resumed.tensors, whole.tensors)
    assert resumed.plans == whole.plans
    assert len(calls) < 0.6 * needed


def test_a_loss_that_is_no_loss_of_each_example_is_refused(tmp_path):
    def mean(outputs, labels):
        return functional.cross_entropy(outputs, labels)

    with pytest.raises(SettingsError, match=r"one\s+value for each"):
        select(selection_problem(losses=mean), RULES, folder=tmp_path)
