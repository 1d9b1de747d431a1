from dataclasses import replace

import pytest
import torch
from cases import present
from smallscenes import SMALL, TUNED, normed

from symport.data import Labelled
from symport.errors import SettingsError
from symport_recipes.data import Examples, LazyImages, digits
from symport_recipes.networks import conv8
from symport_recipes.setups import (
    CIFAR100_CPU,
    Bench,
    draw,
    function,
    halves,
    history,
    network,
    start,
)
from symport_recipes.setups._scene import describe

ANEW = Bench()


def pixels(data: Examples | LazyImages | Labelled) -> torch.Tensor:
    assert not isinstance(data, LazyImages)
    return data.inputs


def rows(inputs: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in inputs.flatten(1).tolist()}


def test_training_and_validation_share_nothing_and_choosing_does_not_report():
    data, whole = halves("digits"), digits()
    sizes = [len(x.labels) for x in (data.training, data.reporting, data.choosing)]
    assert sizes == [1080, 96, 24]
    parts = [rows(pixels(x)) for x in (data.training, data.reporting, data.choosing)]
    assert not parts[0] & parts[1] | parts[1] & parts[2] | parts[0] & parts[2]
    assert parts[0] | parts[1] | parts[2] == rows(whole.train_inputs)
    assert torch.equal(data.test.inputs, whole.test_inputs)


def test_a_share_is_of_the_training_set_alone():
    tenth = halves("digits", 0.1)
    assert len(tenth.training) == 108
    assert rows(pixels(tenth.training)) < rows(pixels(halves("digits").training))
    assert torch.equal(tenth.validation.inputs, halves("digits").validation.inputs)


def test_without_a_base_source_and_target_start_at_random_and_apart():
    first, again, other = (start(SMALL, seed, ANEW) for seed in (0, 0, 100))
    assert torch.equal(first["fc1.weight"], again["fc1.weight"])
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])


def test_a_base_gives_everything_but_the_head():
    base, init = network(present(TUNED.base), 3, ANEW).final, start(TUNED, 3, ANEW)
    assert torch.equal(init["fc1.weight"], base["fc1.weight"])
    assert not torch.equal(init["fc2.weight"], base["fc2.weight"])
    assert not torch.equal(init["fc2.bias"], base["fc2.bias"])
    assert not torch.equal(init["fc2.weight"], start(SMALL, 3, ANEW)["fc2.weight"])


def test_a_pair_has_one_batch_for_each_step_from_the_training_set():
    at = draw(SMALL, 0, ANEW)
    assert [tuple(x.shape) for x, _ in at.batches] == [(64, 64)] * 2
    training = rows(pixels(halves("digits").training))
    assert all(rows(inputs) <= training for inputs, _ in at.batches)
    again = draw(SMALL, 0, ANEW)
    assert torch.equal(at.batches[1][0], again.batches[1][0])


def test_a_source_may_come_from_another_scene():
    at = draw(TUNED, 0, ANEW, source_scene=SMALL)
    assert torch.equal(at.source.init["fc1.weight"], start(SMALL, 0, ANEW)["fc1.weight"])
    assert torch.equal(at.target_init["fc1.weight"], start(TUNED, 100, ANEW)["fc1.weight"])


def test_the_line_ends_at_the_trained_source_and_so_does_its_history(tmp_path):
    bench = Bench(tmp_path)
    at, epochs = draw(SMALL, 0, bench), history(SMALL, 0, bench)
    for line in (at.linear(), epochs):
        assert line.steps == 2
        assert torch.equal(line[0]["fc1.weight"], at.source.init["fc1.weight"])
        assert torch.equal(line[2]["fc1.weight"], at.source.final["fc1.weight"])


def test_accuracy_is_the_share_of_right_answers_on_the_validation_set():
    at = draw(SMALL, 0, ANEW)
    model = function(SMALL.model)
    model.load_state_dict(dict(at.source.final))
    held = at.halves.validation
    expected = (model(held.inputs).argmax(1) == held.labels).double().mean()
    assert at.accuracy(at.source.final) == expected > 0.5
    assert at.accuracy(at.source.final, at.halves.choosing) * 24 % 1 == 0


def test_batchnorm_is_measured_anew_on_the_training_set():
    at = draw(replace(SMALL, model=normed, statistics_size=256), 0, ANEW)
    found = at.finish(at.target_init)
    layer = function(normed)
    layer.load_state_dict(dict(at.target_init))
    order = torch.randperm(1080, generator=torch.Generator().manual_seed(0))
    hidden = layer.get_submodule("0")(pixels(at.halves.training)[order[:256]])
    means = torch.stack([hidden[:128].mean(0), hidden[128:].mean(0)]).mean(0)
    torch.testing.assert_close(found["1.running_mean"], means)


def test_a_summary_says_how_the_base_was_made():
    summary = CIFAR100_CPU.summary()
    assert describe(conv8) == "conv8()"
    assert summary["model"] == "conv8(25, width=0.25)"
    assert summary["base"]["data"] == "cifar10"
    assert summary["base"]["training"]["epochs"] == 24


def test_in_a_ring_each_target_is_the_next_source():
    ring = replace(SMALL, ring=3)
    assert [ring.target_seed(seed) for seed in range(3)] == [1, 2, 0]
    assert [SMALL.target_seed(seed, 2) for seed in range(2)] == [200, 201]
    target = draw(ring, 2, ANEW).target_init
    assert torch.equal(target["fc1.weight"], start(SMALL, 0, ANEW)["fc1.weight"])
    with pytest.raises(SettingsError, match="seed 3: this scene has the seeds 0 to 2 alone"):
        ring.target_seed(3)
