from typing import Any

import pytest
import torch
from cases import present, seeded
from nets import labelled, net, source, spec, weights
from torch.nn import functional

from symport.data import Labelled, stratified_folds
from symport.errors import DataError, SettingsError
from symport.methods import FGMT, Identity, Method, transfer
from symport.model import LossGradient, evaluate
from symport.params import add
from symport.selection import cross_validate

T, SCALES = 3, (0.5, 2.0)


def accuracy(params, part: Labelled) -> float:
    return evaluate(net(), params, part.inputs, part.labels).accuracy


def fgmt(part: Labelled) -> FGMT:
    batches = [(part.inputs, part.labels)]
    return FGMT(LossGradient(net(), functional.cross_entropy, batches))


def folds_of(data, count=3, seed=0):
    return stratified_folds(data.labels, count, seeded(seed))


def validate(make=fgmt, data=None, folds=None, score=accuracy, **options):
    data = labelled(30) if data is None else data
    folds = folds_of(data) if folds is None else folds
    options = {"scales": SCALES, **options}
    return cross_validate(
        source(T), weights(2), spec(), make, data, folds=folds, score=score, **options
    )


def test_scores_are_means_over_labels_that_the_matching_has_not_seen():
    data = labelled(30)
    found = validate(data=data)
    totals = {}
    for fold in folds_of(data):
        part = data.take(fold.held_out)
        method = fgmt(data.take(fold.train))
        ways: list[tuple[str, Method[Any], tuple[float, ...]]] = [
            ("method", method, SCALES), ("identity", Identity(), ()),
        ]  # fmt: skip
        for kind, method, scales in ways:
            result = transfer(
                source(T),
                weights(2),
                spec(),
                method,
                score=lambda params, part=part: accuracy(params, part),
                scales=scales,
            )
            for c in result.candidates[kind == "identity" :]:  # the untouched target counts once
                key = kind if c.step else "untouched", c.step, c.scale
                totals[key] = totals.get(key, 0) + present(c.score) * len(part)
    assert {(c.kind, c.step, c.scale) for c in found.candidates} == totals.keys()
    for c in found.candidates:
        assert c.score == pytest.approx(totals[c.kind, c.step, c.scale] / 30)
    assert found.choice.score == max(present(c.score) for c in found.candidates)


def test_the_score_of_a_candidate_that_ignores_labels_is_its_accuracy_on_all():
    """Uneven folds weigh as much as they hold: the mean over folds is the mean over labels."""
    data = labelled(31)
    found = validate(make=lambda _: Identity(), data=data, folds=folds_of(data, 4))
    for c in found.candidates:
        placed = add(weights(2), source(T).displacement(c.step), c.scale)
        assert c.score == pytest.approx(accuracy(placed, data))


def test_left_out_labels_are_not_shown_to_the_method():
    data, shown = labelled(30), []
    validate(make=lambda part: shown.append(part) or Identity(), data=data)
    for fold, part in zip(folds_of(data), shown, strict=True):
        assert torch.equal(part.labels, data.labels[fold.train])
        assert torch.equal(part.inputs, data.inputs[fold.train])


def test_among_equals_the_last_step_at_scale_one_is_taken():
    choice = validate(score=lambda params, part: 0.5).choice
    assert (choice.kind, choice.step, choice.scale) == ("method", T, 1.0)


def test_a_score_that_is_no_number_never_wins():
    def score(params, part):
        moved = not torch.equal(params["0.weight"], weights(2)["0.weight"])
        return float("nan") if moved else 0.0

    assert validate(score=score).choice.kind == "untouched"


def test_finish_comes_before_the_score():
    def finish(params):
        return {**params, "4.bias": torch.tensor([0.0, 0.0, 1e6])}

    data = labelled(30)
    found = validate(data=data, finish=finish)
    share = float((data.labels == 2).double().mean())
    moved = {round(present(c.score), 6) for c in found.candidates if c.kind != "untouched"}
    assert moved == {round(share, 6)}


@pytest.mark.parametrize("after", [1, 9, 17, 26])
def test_an_interrupted_choice_goes_on_where_it_stopped(after, tmp_path):
    whole = validate()
    calls = iter(range(10**6))

    def failing(params, part):
        if next(calls) == after:
            raise KeyboardInterrupt
        return accuracy(params, part)

    with pytest.raises(KeyboardInterrupt):
        validate(score=failing, folder=tmp_path)
    assert validate(folder=tmp_path) == whole


def test_a_finished_choice_is_read_not_repeated(tmp_path):
    first = validate(folder=tmp_path)
    methods = []
    again = validate(make=lambda part: methods.append(fgmt(part)) or methods[-1], folder=tmp_path)
    assert again == first
    assert sum(method.gradient.evaluations for method in methods) == 0


def test_other_labels_do_not_take_over_scores(tmp_path):
    """Identity says nothing about its labels, so the folder itself has to."""
    kept = [validate(lambda _: Identity(), labelled(30, seed), folder=tmp_path) for seed in (0, 1)]
    fresh = [validate(lambda _: Identity(), labelled(30, seed)) for seed in (0, 1)]
    assert kept == fresh
    assert kept[0] != kept[1]


def test_progress_is_shown_on_request(capfd):
    validate(make=lambda _: Identity(), progress=True)
    assert "cross-validation" in (shown := capfd.readouterr().err)
    assert "3/3" in shown


def test_there_must_be_folds_and_labels_in_range():
    with pytest.raises(SettingsError, match="there are no folds"):
        validate(folds=[])
    data = labelled(30)
    with pytest.raises(DataError, match="labels run from 0 to 7, but there are 3 classes"):
        validate(data=Labelled(data.inputs, torch.where(data.labels == 1, 7, data.labels)),
                 make=lambda _: Identity())  # fmt: skip
