"""The problem of `symport transfer`, and a selection that is kept in a folder."""

import json

import pytest
import torch
from nets import batch_norm_net, examples, labelled, net, same, source, spec, trained, weights
from nets_port import RULES, cross_entropies
from torch.nn import functional

from symport.data import Labelled
from symport.errors import DataError, FileError, ParamsError, SettingsError, SpecError
from symport.methods import FGMT, transfer
from symport.model import LossGradient, reestimate
from symport.selection import check_examples, classification_problem, select, select_into
from symport.spec import PermutationSpec
from symport.trajectory import Trajectory

TEST = labelled(100, seed=7)
FINE = RULES.model_copy(update={"batch_size": 256})


def problem(count=30, **changes):
    parts = {"model": net(), "losses": cross_entropies, "source": source(3),
             "target_init": weights(2), "spec": spec(), "examples": (labelled(count), TEST),
             "batch_size": 256}  # fmt: skip
    return classification_problem(**{**parts, **changes})


def test_a_recorded_source_is_followed_step_by_step():
    """Its steps are no multiples of one displacement."""
    points = [weights(1), trained(weights(1), 3), trained(weights(1), 40)]
    at = problem(source=Trajectory.recorded(points))
    found = select(at, FINE, folder=None)
    data = labelled(30)
    slope = LossGradient(net(), functional.cross_entropy, [(data.inputs, data.labels)])
    plan = found.plans["transfer"]
    steps = transfer(at.source, weights(2), spec(), FGMT(slope, normalize=True)).history
    assert len(steps) == at.source.steps == 2
    identity = found.plans["identity"]
    placed = {
        name: start + identity.scale * (points[identity.step][name] - points[0][name])
        for name, start in weights(2).items()
    }
    expected = at.evaluate(placed, TEST).loss
    assert found.evaluated["identity"].loss == pytest.approx(expected, rel=1e-5)
    assert 1 <= plan.step <= 2


def test_held_out_labels_choose_nothing():
    shuffled = Labelled(TEST.inputs, TEST.labels.flip(0))
    first, second = (
        select(problem(examples=(labelled(30), test)), FINE, folder=None)
        for test in (TEST, shuffled)
    )
    assert same(first.tensors, second.tensors)
    assert first.plans == second.plans


@pytest.mark.parametrize("method", ["fgmt", "gmt", "weights", "activations", "identity"])
def test_every_method_can_be_selected_with(method):
    rules = FINE.model_copy(update={"method": method, "direct_steps": 0})
    found = select(problem(20), rules, folder=None)
    names = ["untouched", "identity"] + ["transfer"] * (method != "identity")
    assert list(found.plans) == names


def test_one_example_is_enough():
    found = select(problem(1), FINE, folder=None)
    assert found.pick == "transfer"
    assert found.plans["transfer"].step == 3
    assert found.scored == ()


def batch_norm_problem(count=30, batch_size=256):
    model = batch_norm_net()
    patterns = {
        **dict.fromkeys(("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"), "h"),
        "0.weight": "h .",
        "1.num_batches_tracked": "",
        "4.weight": ". h",
        "4.bias": ".",
    }
    start, end, target = (batch_norm_net(seed).state_dict() for seed in (1, 3, 2))
    buffers = [name for name, _ in model.named_buffers()]
    symmetry = PermutationSpec.parse(patterns, start, buffers=buffers)
    trajectory = Trajectory.linear(start, end, 2)
    return problem(
        count,
        model=model,
        source=trajectory,
        target_init=target,
        spec=symmetry,
        batch_size=batch_size,
    )


def test_batchnorm_is_reestimated_on_the_training_inputs():
    at = batch_norm_problem()
    found = select(at, FINE, folder=None)
    inputs = [at.training.inputs]
    if found.pick != "untouched":
        assert same(found.tensors, reestimate(at.model, found.tensors, inputs))
    untouched = at.evaluate(at.target_init, TEST)
    assert found.evaluated["untouched"].loss == untouched.loss
    plan = found.plans["identity"]
    placed = at.source.displacement(plan.step)
    raw = {
        name: start + plan.scale * placed[name] if name in placed and name not in at.spec.buffers
        else start
        for name, start in at.target_init.items()
    }  # fmt: skip
    expected = at.evaluate(reestimate(at.model, raw, inputs), TEST).loss
    assert found.evaluated["identity"].loss == pytest.approx(expected, rel=1e-5)


def test_batchnorm_never_sees_a_batch_of_one():
    rules = FINE.model_copy(update={"batch_size": 16, "folds": 0})
    select(batch_norm_problem(17, batch_size=16), rules, folder=None)


def test_a_folder_holds_the_result_and_goes_on_after_an_interruption(tmp_path):
    whole = select(problem(), FINE, folder=None)
    calls = []

    def broken(outputs, labels):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return cross_entropies(outputs, labels)

    with pytest.raises(KeyboardInterrupt):
        select_into(tmp_path / "run", problem(losses=broken), FINE, run={"name": "a"})
    assert list((tmp_path / "run" / "folds").glob("fold-*/history.jsonl"))
    resumed = select_into(tmp_path / "run", problem(), FINE, run={"name": "a"})
    assert resumed.plans == whole.plans
    assert same(resumed.tensors, whole.tensors)
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["picked"] == whole.pick
    assert written["candidates"]["transfer"]["cross_validated_loss"] == whole.plans["transfer"].loss
    with pytest.raises(FileError, match="holds another run: it differs in name"):
        select_into(tmp_path / "run", problem(), FINE, run={"name": "b"})


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path):
    def scalar(outputs, labels):
        return functional.cross_entropy(outputs, labels)

    short = {"w": torch.zeros(2)}
    wrong = [
        ({"spec": PermutationSpec.parse({"w": "h"}, sizes={"h": 2})}, SpecError, "no pattern for"),
        ({"losses": scalar}, SettingsError, r"one\s+value for each"),
        ({"source": Trajectory.linear(short, {"w": torch.ones(2)}, 1)}, ParamsError, "lacks w"),
    ]
    for changes, error, message in wrong:
        with pytest.raises(error, match=message):
            select_into(tmp_path / "run", problem(**changes), FINE, run={})
    assert not (tmp_path / "run").exists()


def test_weights_are_checked_against_the_model():
    def check(params):
        check_examples(net(), params, {"few.npz": labelled(10)})

    check(weights(2))
    integers = {name: (10 * tensor).int() for name, tensor in weights(2).items()}
    with pytest.raises(ParamsError, match=r"0\.weight: weights of torch.int32 cannot be transferr"):
        check(integers)
    with pytest.raises(ParamsError, match=r"does not fit the model: the parameters lack 4\.bias"):
        check({n: t for n, t in weights(2).items() if n != "4.bias"})
    half = {name: tensor.bfloat16() for name, tensor in weights(2).items()}
    with pytest.raises(
        DataError, match=r"few\.npz: .*torch.float32 with weights of torch.bfloat16"
    ):
        check(half)
    inputs, labels = examples(10)
    check_examples(net(), half, {"few.npz": Labelled(inputs.bfloat16(), labels)})


def test_labels_out_of_range_are_refused_by_the_name_of_their_set():
    inputs, labels = examples(30)
    bad = {
        "a set": (Labelled(inputs, labels + 1), "a set: labels run from 1 to 3, but there are 3"),
        "test": (Labelled(inputs, labels - 1), "test: labels run from -1 to 1"),
        "narrow": (Labelled(inputs[:, :2], labels), "narrow: the model"),
        "infinite": (Labelled(inputs / 0, labels), "infinite: .* logits are NaN"),
    }
    for name, (part, message) in bad.items():
        with pytest.raises(DataError, match=message):
            check_examples(net(), weights(2), {name: part})


def test_a_planted_copy_is_better_than_the_untouched_target():
    good = trained(weights(1), steps=200)
    planted = Trajectory.linear(weights(1), good, 3)
    at = problem(60, source=planted, target_init=weights(1))
    found = select(at, FINE.model_copy(update={"direct_steps": 0}), folder=None)
    assert found.evaluated[found.pick].loss < found.evaluated["untouched"].loss
    assert found.terms.target == "the target"
