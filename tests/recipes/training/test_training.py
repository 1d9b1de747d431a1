import math
from functools import partial
from itertools import pairwise
from typing import Literal

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from symport.data import Labelled, ShuffledBatches
from symport.errors import DataError, ParamsError, SettingsError
from symport.model import LossGradient, train_directly
from symport_recipes.data import Dataset, Examples, digits, few_labels
from symport_recipes.networks import conv8, digits_mlp, initial, mlp
from symport_recipes.training import TrainSettings, train
from symport_recipes.training import _train as training
from symport_recipes.training._epochs import Epoch


def small() -> nn.Module:
    return mlp([4, 6, 3])


def points(n: int = 20, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(11)
    inputs = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return inputs.to(dtype), inputs[:, :3].argmax(1)


def images(n: int = 12) -> Dataset:
    generator = Generator().manual_seed(12)
    pixels = torch.randint(0, 256, (n, 3, 32, 32), generator=generator).to(torch.uint8)
    labels = torch.arange(n) % 3
    return Dataset("noise", pixels, labels, pixels, labels, 3, (0.5,) * 3, (0.25,) * 3)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_a_plain_loop_bit_for_bit(optimizer: Literal["sgd", "adam"]):
    settings = TrainSettings(
        epochs=3, batch_size=8, lr=0.05, weight_decay=1e-3, schedule="cosine",
        optimizer=optimizer,
    )  # fmt: skip
    inputs, labels = points()
    params0 = initial(small, 0)
    found = train(small(), params0, (inputs, labels), settings, seed=7)

    net = small()
    net.load_state_dict(params0)
    tensors = list(net.parameters())
    if optimizer == "sgd":
        rule = torch.optim.SGD(tensors, 0.05, momentum=0.9, weight_decay=1e-3, fused=True)
    else:
        rule = torch.optim.Adam(tensors, 0.05, weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rule, T_max=3)
    generator = Generator().manual_seed(7)
    for _ in range(3):
        order = torch.randperm(20, generator=generator)
        for start in (0, 8, 16):
            batch = order[start : start + 8]
            rule.zero_grad()
            cross_entropy(net(inputs[batch]), labels[batch]).backward()
            rule.step()
        schedule.step()
    assert same(found.params, net.state_dict())


def test_sgd_is_the_formula_of_momentum_and_decay():
    # v ← μv + (g + λθ), θ ← θ − ηv, in float64 on the whole data: no order, no batches.
    settings = TrainSettings(epochs=6, batch_size=20, lr=0.1, momentum=0.8, weight_decay=0.01)
    inputs, labels = points(dtype=torch.float64)
    params0 = {name: tensor.double() for name, tensor in initial(small, 0).items()}
    found = train(small(), params0, (inputs, labels), settings, seed=0).params

    theta = dict(params0)
    velocity = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    net = small().double()
    for _ in range(6):
        wanted = {name: tensor.requires_grad_() for name, tensor in theta.items()}
        loss = cross_entropy(torch.func.functional_call(net, wanted, inputs), labels)
        grads = dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))
        theta = {name: tensor.detach() for name, tensor in theta.items()}
        velocity = {n: 0.8 * velocity[n] + grads[n] + 0.01 * theta[n] for n in theta}
        theta = {n: theta[n] - 0.1 * velocity[n] for n in theta}
    assert all(torch.allclose(found[n], theta[n], rtol=0, atol=1e-14) for n in theta)


def test_nothing_that_is_passed_in_is_changed():
    model, params0, (inputs, labels) = small().eval(), initial(small, 1), points()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in params0.items()}
    random_state = torch.get_rng_state()
    result = train(model, params0, (inputs, labels), TrainSettings(epochs=2), seed=0)
    assert same(dict(model.state_dict()), before)
    assert same(params0, kept)
    assert not model.training
    assert all(tensor.grad is None for tensor in model.parameters())
    assert torch.equal(points()[0], inputs)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(torch.equal(result.params[name], kept[name]) for name in kept)
    assert not any(tensor.requires_grad for tensor in result.params.values())


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def test_one_seed_gives_one_result_even_with_dropout():
    params0, settings = initial(with_dropout, 0), TrainSettings(epochs=2, batch_size=4)
    torch.manual_seed(0)
    first = train(with_dropout(), params0, points(), settings, seed=3)
    torch.manual_seed(1)
    again = train(
        with_dropout(), params0, points(), settings, seed=3,
        recorder=lambda params: torch.rand(9), progress=lambda epoch: torch.rand(9),
    )  # fmt: skip
    other = train(with_dropout(), params0, points(), settings, seed=4)
    assert same(first.params, again.params)
    assert not same(first.params, other.params)


def test_dropout_differs_from_pass_to_pass():
    # A rate too small to move: with all in one batch, only the dropped units change the loss.
    settings = TrainSettings(epochs=6, lr=1e-12)
    history = train(with_dropout(), initial(with_dropout, 0), points(), settings, seed=0).history
    assert len({round(epoch.loss, 6) for epoch in history}) == 6


def test_augmented_training_is_reproducible_and_differs_from_plain():
    def build() -> nn.Module:
        return conv8(3, width=1 / 16)

    params0 = initial(build, 0)
    results = [
        train(
            build(), params0, images(), TrainSettings(steps=2, batch_size=6, augment=augment),
            seed=0,
        ).params
        for augment in (True, True, False)
    ]  # fmt: skip
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_normalising_once_or_batch_by_batch_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    def build() -> nn.Module:
        return mlp([3 * 32 * 32, 3])

    params0, settings = initial(build, 0), TrainSettings(epochs=2, batch_size=5, lr=0.01)
    once = train(build(), params0, images(), settings, seed=0)
    monkeypatch.setattr(training, "FLOATS_LIMIT", 0)
    each_time = train(build(), params0, images(), settings, seed=0)
    assert same(once.params, each_time.params)


def test_a_pair_examples_and_a_data_set_are_trained_alike():
    (inputs, labels), params0 = points(), initial(small, 0)
    settings = TrainSettings(epochs=1)
    data = [
        (inputs, labels),
        Examples(inputs, labels),
        Dataset("points", inputs, labels, inputs[:1], labels[:1], 3),
    ]
    first, *others = (train(small(), params0, d, settings, seed=0).params for d in data)
    assert all(same(first, other) for other in others)


def test_the_recorder_sees_the_whole_trajectory():
    params0, seen = initial(small, 0), list[dict[str, Tensor]]()
    result = train(
        small(), params0, points(), TrainSettings(epochs=3), seed=0, recorder=seen.append
    )
    assert len(seen) == 4
    assert same(seen[0], params0)
    assert same(seen[-1], result.params)
    assert not any(same(one, two) for one, two in pairwise(seen))


def test_history_counts_steps_and_measures_the_loss():
    params0, reported = initial(small, 0), list[Epoch]()
    inputs, labels = points()
    settings = TrainSettings(epochs=2, batch_size=8, lr=1e-12)
    history = train(
        small(), params0, (inputs, labels), settings, seed=0, progress=reported.append
    ).history
    assert list(history) == reported
    assert [(epoch.number, epoch.steps) for epoch in history] == [(1, 3), (2, 6)]
    net = small()
    net.load_state_dict(params0)
    expected = cross_entropy(net(inputs), labels).item()
    assert [epoch.loss for epoch in history] == pytest.approx([expected] * 2, rel=1e-6)
    assert 0 < history[0].elapsed_seconds < history[1].elapsed_seconds


def test_a_length_in_steps_cuts_the_last_pass_short():
    settings = TrainSettings(steps=5, batch_size=8, schedule="cosine", lr=0.1)
    history = train(small(), initial(small, 0), points(), settings, seed=0).history
    assert [(epoch.number, epoch.steps) for epoch in history] == [(1, 3), (2, 5)]
    assert history[-1].lr == pytest.approx(0.05 * (1 + math.cos(math.pi * 4 / 5)))


def test_batchnorm_statistics_are_trained_too():
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))

    result = train(build(), initial(build, 0), points(), TrainSettings(epochs=2), seed=0)
    assert int(result.params["1.num_batches_tracked"]) == 2
    assert float(result.params["1.running_mean"].abs().sum()) > 0


def test_weights_that_are_frozen_stay():
    model = small()
    model.get_submodule("fc1").requires_grad_(requires_grad=False)
    params0 = initial(small, 0)
    found = train(model, params0, points(), TrainSettings(epochs=1), seed=0).params
    assert torch.equal(found["fc1.weight"], params0["fc1.weight"])
    assert not torch.equal(found["fc2.weight"], params0["fc2.weight"])


def test_labels_beyond_the_outputs_are_refused():
    inputs, labels = points()
    with pytest.raises(DataError, match=r"the highest label is 3, .* has shape \(1, 3\)"):
        train(small(), initial(small, 0), (inputs, labels + 1), TrainSettings(epochs=1), seed=0)


def test_weights_of_another_model_are_refused():
    params0 = initial(lambda: mlp([4, 7, 3]), 0)
    with pytest.raises(ParamsError, match=r"do not fit the model: .* fc1\.weight"):
        train(small(), params0, points(), TrainSettings(epochs=1), seed=0)
    with pytest.raises(ParamsError, match="hold no float tensor"):
        train(small(), {}, points(), TrainSettings(epochs=1), seed=0)


def test_only_images_can_be_augmented():
    settings = TrainSettings(epochs=1, augment=True)
    with pytest.raises(DataError, match="only uint8 images of shape"):
        train(small(), initial(small, 0), points(), settings, seed=0)


def test_training_that_diverges_is_stopped():
    inputs, labels = points()
    settings = TrainSettings(epochs=9, lr=1e6)
    with pytest.raises(SettingsError, match=r"training diverged: the loss of epoch \d is"):
        train(small(), initial(small, 0), (inputs * 1e30, labels), settings, seed=0)


def accuracy(params: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> float:
    model = digits_mlp()
    model.load_state_dict(params)
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).float().mean())


@pytest.mark.parametrize(
    ("n", "least"), [(20, 0.65), pytest.param(100, 0.86, marks=pytest.mark.slow)]
)
def test_direct_training_on_few_digits_reaches_its_measured_accuracy(n: int, least: float):
    data = digits()
    chosen = few_labels(data.train_labels, n, Generator().manual_seed(0))
    inputs, labels = data.train_inputs[chosen], data.train_labels[chosen]
    params0 = initial(digits_mlp, 0)
    batches = ShuffledBatches(Labelled(inputs, labels), size=128, count=500, seed=0)
    gradient = LossGradient(digits_mlp(), cross_entropy, batches)
    found = train_directly(gradient, params0, steps=500)
    assert accuracy(found, inputs, labels) == 1
    assert accuracy(found, data.test_inputs, data.test_labels) > least


def test_a_recorder_can_be_called_after_some_steps_instead_of_each_pass():
    settings = TrainSettings(steps=5, batch_size=8, lr=0.05)
    init, seen = initial(small, 0), []
    train(
        small(), init, points(), settings, seed=7, recorder=seen.append, record_at={2, 5}
    )  # fmt: skip
    assert len(seen) == 3
    assert same(seen[0], init)
    for state, steps in zip(seen[1:], (2, 5), strict=True):
        short = TrainSettings(steps=steps, batch_size=8, lr=0.05)
        assert same(state, train(small(), init, points(), short, seed=7).params)


def test_what_is_asked_for_is_compiled_once_and_trained(monkeypatch: pytest.MonkeyPatch):
    seen = list[nn.Module]()
    monkeypatch.setattr(torch, "compile", lambda net: seen.append(net) or net)
    settings, init = TrainSettings(epochs=2), initial(small, 0)
    plain = train(small(), init, points(), settings, seed=7)
    assert not seen
    compiled = train(small(), init, points(), settings, seed=7, compiled=True)
    assert len(seen) == 1
    assert same(dict(seen[0].state_dict()), compiled.params)
    assert same(plain.params, compiled.params)


@pytest.mark.slow
def test_compiled_training_is_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch):
    # Traced and differentiated as ever; without the C++ compiler, which needs half a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    settings = TrainSettings(epochs=2, batch_size=8, lr=0.05)
    plain, compiled = (
        train(small(), initial(small, 0), points(), settings, seed=7, compiled=compiled)
        for compiled in (False, True)
    )
    assert compiled.params.keys() == plain.params.keys()
    for name, tensor in plain.params.items():
        torch.testing.assert_close(compiled.params[name], tensor)
