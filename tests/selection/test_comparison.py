import json
import math
import re
from dataclasses import replace

import pytest
import torch
from cases import present
from nets import (
    batch_norm_net,
    case,
    examples,
    labelled,
    net,
    same,
    source,
    spec,
    trained,
    weights,
)
from torch.nn import functional

from symport.data import Labelled, ShuffledBatches
from symport.errors import DataError, FileError, ParamsError, SettingsError, SpecError
from symport.methods import FGMT, Identity, transfer
from symport.model import LossGradient, evaluate, reestimate, train_directly
from symport.selection import (
    Case,
    CompareSettings,
    Entry,
    accuracy_verdict,
    check_examples,
    compare,
)
from symport.settings import METHODS
from symport.spec import PermutationSpec
from symport.trajectory import Trajectory

QUICK = CompareSettings(folds=2, lengths=[0.5], direct_steps=5)
TEST = labelled(100, seed=7)


def test_each_entry_is_what_its_name_says():
    found = compare(case(30), TEST, replace(QUICK, folds=0))
    data = labelled(30)
    slope = LossGradient(net(), functional.cross_entropy, [(data.inputs, data.labels)])
    drawn = ShuffledBatches(data, size=256, count=5, seed=0)
    batches = LossGradient(net(), functional.cross_entropy, drawn)
    expected = {
        "untouched": weights(2),
        "identity": transfer(source(3), weights(2), spec(), Identity()).params,
        "direct": train_directly(batches, weights(2), steps=5),
        "transfer": transfer(source(3), weights(2), spec(), FGMT(slope)).params,
    }
    assert found.entries.keys() == expected.keys()
    for name, entry in found.entries.items():
        assert same(dict(entry.params), expected[name])
        scores = evaluate(net(), expected[name], TEST.inputs, TEST.labels)
        assert entry.accuracy == pytest.approx(scores.accuracy)
        assert entry.nll == pytest.approx(scores.nll)
    assert found.chosen_by is None
    assert found.labels == 30


def test_the_transfer_ends_where_cross_validation_says():
    found = compare(case(30), TEST, QUICK)
    chosen = present(found.chosen_by).choice.candidate
    assert found.result.choice == chosen
    assert found.result.candidates == (chosen,)
    assert same(found.entries["transfer"].params, found.result.params)


def test_test_labels_choose_nothing():
    shuffled = Labelled(TEST.inputs, TEST.labels.flip(0))
    first, second = (compare(case(30), test, QUICK) for test in (TEST, shuffled))
    assert same(first.result.params, second.result.params)
    assert first.chosen_by == second.chosen_by


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_compared(method):
    settings = replace(QUICK, method=method, direct_steps=0)
    found = compare(case(20, steps=2), TEST, settings)
    assert list(found.entries) == ["untouched", "identity", "transfer"]
    assert found.settings.method == method


def test_one_label_is_enough():
    found = compare(case(1), TEST, QUICK)
    assert found.chosen_by is None
    assert found.result.choice.step == 3


def test_labels_beyond_a_batch_make_several_even_ones():
    slope = case(30).gradient(labelled(30), 16)
    assert [len(labels) for _, labels in slope.batches] == [15, 15]
    assert torch.equal(torch.cat([labels for _, labels in slope.batches]), labelled(30).labels)


def batch_norm_case(count: int = 30) -> Case:
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
    return Case(model, functional.cross_entropy, trajectory, target, symmetry, labelled(count))


def test_batchnorm_is_measured_again_on_the_labels_at_hand():
    at = batch_norm_case()
    found = compare(at, TEST, QUICK)
    for name in ("transfer", "identity", "direct"):
        params = found.entries[name].params
        assert same(dict(params), reestimate(at.model, params, [at.labelled.inputs]))
    assert same(dict(found.entries["untouched"].params), dict(at.target_init))


def test_batchnorm_never_sees_a_batch_of_one():
    compare(batch_norm_case(17), TEST, replace(QUICK, batch_size=16, folds=0))


def test_a_comparison_goes_on_after_an_interruption(tmp_path):
    whole = compare(case(30), TEST, QUICK)

    class Broken:
        calls = 0

        def __call__(self, outputs, labels):
            self.calls += 1
            if self.calls == 12:
                raise KeyboardInterrupt
            return functional.cross_entropy(outputs, labels)

    with pytest.raises(KeyboardInterrupt):
        compare(replace(case(30), loss=Broken()), TEST, QUICK, folder=tmp_path)
    assert list((tmp_path / "folds").glob("fold-*/history.jsonl"))
    resumed = compare(case(30), TEST, QUICK, folder=tmp_path)
    assert resumed.chosen_by == whole.chosen_by
    assert same(resumed.result.params, whole.result.params)
    summary = json.loads((tmp_path / "result.json").read_text())
    assert summary["choice"]["score"] == present(whole.chosen_by).choice.score


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path):
    good = case(30)
    inputs, labels = examples(30)
    broken = {**weights(2), "4.bias": torch.tensor([0.0, torch.nan, 0.0])}
    other = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
    wrong = [
        (replace(good, labelled=Labelled(inputs, labels + 1)), TEST, DataError,
         "the labelled examples: labels run from 1 to 3, but there are 3 classes"),
        (good, Labelled(TEST.inputs, TEST.labels - 1), DataError,
         "the test set: labels run from -1 to 1"),
        (good, Labelled(TEST.inputs[:, :2], TEST.labels), DataError, "the test set: the model"),
        (good, Labelled(TEST.inputs / 0, TEST.labels), DataError, "test set: .* logits are NaN"),
        (replace(good, target_init=broken), TEST, ParamsError, r"4\.bias: 1 of 3 values"),
        (replace(good, spec=other), TEST, SpecError, "no pattern for"),
        (replace(good, loss=lambda outputs, labels: outputs), TEST, SettingsError, "scalar tensor"),
        (replace(good, source=Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 1)),
         TEST, ParamsError, "the target initialization lacks w, which the source has"),
    ]  # fmt: skip
    for at, test, error, message in wrong:
        with pytest.raises(error, match=message):
            compare(at, test, QUICK, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make this folder"):
        compare(case(30), TEST, QUICK, folder=tmp_path / "file")


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "magic"},
            "method 'magic' is none of fgmt, gmt, weights, activations, identity, nor module:Class",
        ),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"folds": -1}, "folds must be at least 0, not -1"),
        ({"folds": 1}, "folds must be 0, or at least 2"),
        ({"direct_steps": -1}, "direct_steps must be at least 0, not -1"),
        ({"direct_lr": 0.0}, r"direct_lr must be positive and finite, not 0\.0"),
        ({"direct_lr": math.nan}, "direct_lr must be positive and finite, not nan"),
        ({"lengths": [1.5, -2]}, "a length must be positive and finite, not -2"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"seed": 2**32}, "seed must be at most 4294967295, not 4294967296"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        CompareSettings(**options)


def entry(*right: int) -> Entry:
    return Entry({}, torch.tensor(right, dtype=torch.bool), 0.5)


def test_accuracy_comes_with_its_standard_error():
    one = entry(*[1] * 30, *[0] * 10)
    assert one.accuracy == 0.75
    assert one.accuracy_error == pytest.approx(one.right.double().std(correction=0) / math.sqrt(40))
    assert entry(1, 1).accuracy_error == 0


def test_the_verdict_is_a_paired_comparison():
    """Of 100 labels the two differ on 25: 5 for one, 20 for the other."""
    ours, theirs = entry(*[1] * 5, *[0] * 20, *[1] * 75), entry(*[0] * 5, *[1] * 20, *[1] * 75)
    differences = [1] * 5 + [-1] * 20 + [0] * 75
    mean = sum(differences) / 100
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / 100)
    sentence = accuracy_verdict({"transfer": ours, "direct": theirs})
    pattern = (
        r"Direct training beats transfer by 15\.0 points \((.*) to (.*)\): 95.0% against 80.0%\."
    )
    low, high = map(float, present(re.fullmatch(pattern, sentence)).groups())
    assert (high - low) / 2 == pytest.approx(1.96 * 100 * deviation / 10, rel=0.1)


def test_too_few_labels_say_nothing_as_in_a_port():
    """Five answers all one way are chance once in sixteen times; `port` has the same number."""
    better, worse = entry(1, 1, 1, 1, 1), entry(0, 0, 0, 0, 0)
    assert accuracy_verdict({"transfer": better, "direct": worse, "identity": worse}) == (
        "Only 5 test labels: too few to compare candidates on; bring more."
    )
    six = accuracy_verdict({"transfer": entry(*[1] * 6), "direct": entry(*[0] * 6)})
    assert six.startswith("Transfer beats direct training by 100.0 points")


def test_every_rival_gets_a_sentence():
    best, half = entry(*[1] * 40), entry(*[1, 0] * 20)
    lines = accuracy_verdict(
        {"untouched": half, "identity": best, "transfer": best, "direct": half}
    )
    assert lines.splitlines() == [
        "Transfer beats direct training by 50.0 points (35.0 to 65.0): 100.0% against 50.0%.",
        "No clear difference between transfer and the identity: 100.0% against 100.0%.",
        "Transfer beats the untouched target by 50.0 points (35.0 to 65.0): 100.0% against 50.0%.",
    ]


def test_a_difference_whose_interval_reaches_zero_is_open():
    few = {"transfer": entry(1, 1, *[0] * 8), "direct": entry(0, 1, *[0] * 8)}
    said = "No clear difference between transfer and direct training: 20.0% against 10.0%."
    assert accuracy_verdict(few) == said


def test_a_planted_copy_beats_the_untouched_target():
    good = trained(weights(1), steps=200)
    planted = replace(case(60), source=Trajectory.linear(weights(1), good, 3))
    found = compare(replace(planted, target_init=weights(1)), TEST, replace(QUICK, direct_steps=0))
    assert "Transfer beats the untouched target" in found.verdict
