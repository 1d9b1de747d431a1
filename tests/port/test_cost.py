from itertools import pairwise

import pytest
import torch
from cases import CASES, present
from nets import labelled, net, source, spec, weights
from nets_port import RULES, cross_entropies, selection_problem
from safetensors.torch import save_file
from tiny import trio

from symport.matching import Pair, Similarity
from symport.port import check_port, make_settings
from symport.port._cost import INTERPRETER, Matching, Speed, estimate, matching_of, speed_of
from symport.port._counts import Course, counts
from symport.port._outlook import Outlook, untried
from symport.selection import Task, fewest_steps, select


def course_of(found, rules) -> Course:
    """What a finished selection decided: how long its curves are is read from its folder."""
    trainings = [found.plans[name].training for name in ("direct", "then direct")]
    finals = [training.steps for training in trainings]
    plan = found.plans["transfer"]
    return Course(plan.step, [2] * 2 * len(rules.learning_rates) * rules.folds, finals)


@pytest.mark.parametrize("count", [24, 31])
@pytest.mark.parametrize("batch_size", [64, 7])
def test_evaluations_are_counted_as_they_happen(count, batch_size, tmp_path):
    """Every example that reaches the loss, with and without a gradient; two steps always end."""
    seen = {True: 0, False: 0}

    def counted(outputs, labels):
        seen[torch.is_grad_enabled()] += len(labels)
        return cross_entropies(outputs, labels)

    rules = RULES.model_copy(update={"direct_steps": 2, "batch_size": batch_size})
    found = select(selection_problem(count=count, losses=counted), rules, folder=tmp_path)
    expected = counts(rules, count, 60, course_of(found, rules), fgmt=True)
    assert seen == {True: expected.gradients, False: expected.forwards}


def test_a_curve_that_never_falls_ends_when_patience_does():
    assert fewest_steps(64) == 2
    assert fewest_steps(1) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_matching_is_as_large_as_it_says(case):
    pair = Pair(*(case.draw(torch.Generator().manual_seed(k)) for k in (0, 1)))
    similarity = Similarity(case.spec)
    similarity.add(pair)
    found = matching_of(case.spec, pair.target)
    assert 2 * 4 * found.kept == similarity.kept_bytes
    facets = [gain for tree in similarity.trees for gain in similarity.gains(tree).values()]
    assert found.similarities == sum(gain.numel() for gain in facets)


def given(**settings):
    names = dict.fromkeys(("old_base", "tuned", "new_base", "out"), "x")
    return make_settings({**names, "method": "fgmt", **settings})


SPEED = Speed(1.0, 3.0, 1e-9, 1e-9, 0.5, 1000)


def cost(settings, outlook=None, matching=Matching(100, 200, 2000), **options):  # noqa: B008
    outline = {"w": torch.zeros(10, 10, device="meta")}
    how = {"has_activations": False, "stored": 400, **options}
    outlook = untried(settings) if outlook is None else outlook
    return estimate(settings, 64, outline, SPEED, matching, outlook, **how)


def increases(*values: float | None) -> bool:
    known = [present(value) for value in values]
    return all(a < b for a, b in pairwise(known))


def test_gradients_dominate_the_estimate_and_training_bounds_it():
    found = cost(given(folds=0))
    gradients, forwards = 2 * 8 * 48, 1 + 16 * 5 + 3 * 64
    assert found.seconds == pytest.approx(3 * gradients + forwards + 12, rel=0.01)
    assert found.most_seconds == found.seconds
    longer = cost(given())
    assert increases(
        found.seconds, cost(given(direct_steps=0)).seconds, longer.seconds, longer.most_seconds
    )


def test_what_is_known_of_training_narrows_the_estimate():
    given_steps = given(method="weights")
    early = cost(given_steps, Outlook((2,) * 4, (2,) * 4, ((0, 0),) * 2))
    late = cost(given_steps, Outlook((64,) * 4, (64,) * 4, ((64, 64),) * 2))
    # 16 curves and two final trainings, of at most 16 examples a step.
    assert present(late.seconds) - present(early.seconds) == pytest.approx(
        (16 * 62 + 2 * 64) * (3 * 16 + 0.5), rel=0.05
    )
    assert late.most_seconds == early.most_seconds == pytest.approx(late.seconds)
    between = cost(given_steps, Outlook((2,) * 4, (64,) * 4, ((0, 64),) * 2))
    geometric_mean = (present(early.seconds) * present(late.seconds)) ** 0.5
    assert between.seconds == pytest.approx(geometric_mean)
    assert cost(given_steps).seconds == between.seconds


def test_memory_grows_with_kept_pairs_alone():
    base = cost(given()).memory
    assert cost(given(folds=8, direct_steps=128)).memory == base
    assert cost(given(steps=16)).memory - base == 2 * 8 * 100 * 4
    assert base - cost(given(pairs_dtype="bfloat16")).memory == 2 * 8 * 100 * 2
    assert cost(given()).disk == 400


@pytest.mark.parametrize(
    ("dtype", "models", "training"),
    [
        ("float32", 3 * 4, 4 + 4 + 8),  # weights, gradient, and Adam's moments
        ("bfloat16", 3 * 2, 4 + 2 + 4 + 8),  # the gradient as computed and as wide as the weights
        ("float64", 3 * 8, 8 + 8 + 16),
    ],
)
def test_training_takes_weights_and_moments_of_at_least_float32(dtype, models, training):
    found = cost(given(dtype=dtype), matching=Matching()).memory
    assert found == INTERPRETER + SPEED.saved + 100 * (models + training)


def test_a_model_is_timed_as_it_is_and_left_as_it_was():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task = Task(lambda inputs: inputs, cross_entropies)
    found = speed_of(model, weights(3), task, labelled(8))
    assert found.forward > 0
    assert found.gradient > 0
    # Kept for the backward pass: what enters each layer, what ReLU lets through, and the loss.
    assert 4 * 8 * (8 + 6) <= found.saved <= 4 * 8 * 80
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert matching_of(spec(), source(1)[0]).kept == 48


def test_arrays_are_compared_and_timed_too(tmp_path):
    files = trio(tmp_path, "BertForSequenceClassification")
    data = {"inputs": torch.randint(3, 260, (8, 6)), "labels": torch.randint(3, (8,))}
    save_file(data, tmp_path / "few.safetensors")
    how = {"task": "arrays", "loss": "symport.tasks:class_losses"}
    found = check_port(
        make_settings({**files, **how, "examples": str(tmp_path / "few.safetensors")})
    )
    assert found.cka == pytest.approx(1.0, abs=1e-6)  # the same function, in another order
    assert increases(0, found.cost.seconds, found.cost.most_seconds)
    assert found.numbers()["time"].startswith("about ")


def test_nothing_is_tried_where_memory_does_not_hold_it(tmp_path, monkeypatch):
    files = trio(tmp_path, "BertForSequenceClassification")
    data = {"inputs": torch.randint(3, 260, (8, 6)), "labels": torch.randint(3, (8,))}
    save_file(data, tmp_path / "few.safetensors")
    how = {"task": "arrays", "loss": "symport.tasks:class_losses"}
    settings = make_settings({**files, **how, "examples": str(tmp_path / "few.safetensors")})
    weights = check_port(settings).parameters
    # Three models of float32, and of what trains the weights, the gradient and two moments.
    needed = 4 * (3 + 4) * weights

    def three(*_):
        raise AssertionError("three models in memory")

    monkeypatch.setattr("symport.port._cost.available", lambda: needed + 1)
    assert not [line for line in check_port(settings).verdict if "memory" in line]
    monkeypatch.setattr("symport.port._cost.available", lambda: needed)
    monkeypatch.setattr("symport.port._check.load_all", three)
    found = check_port(settings)
    assert [line for line in found.verdict if "memory that is free here" in line]
    assert increases(0, found.cost.seconds, found.cost.most_seconds)
