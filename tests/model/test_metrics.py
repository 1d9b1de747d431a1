import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from symport.data import stratified_folds
from symport.errors import DataError, ParamsError, SettingsError
from symport.model import Scores, accuracy, ece, evaluate, nll, predict


def random_set(seed: int, count: int = 50, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator)
    return logits, torch.randint(classes, (count,), generator=generator)


def probabilities(logits: Tensor) -> np.ndarray:
    powers = np.exp(logits.double().numpy())
    return powers / powers.sum(-1, keepdims=True)


def logits_of(confidences: list[float]) -> Tensor:
    """Two classes, of which class 0 has the given probability."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p, 1 - p], 1).log()


# Scores from logits


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_and_nll_follow_numpy(seed: int):
    logits, labels = random_set(seed)
    p = probabilities(logits)
    assert accuracy(logits, labels) == pytest.approx((p.argmax(1) == labels.numpy()).mean())
    expected = -np.log(p[np.arange(len(p)), labels.numpy()]).mean()
    assert nll(logits, labels) == pytest.approx(expected, rel=1e-12)


def test_ece_by_hand():
    # Five bins. (0.4, 0.6]: 0.55 right, 0.6 wrong; (0.6, 0.8]: 0.7 right; (0.8, 1]: 0.9 wrong.
    logits = logits_of([0.55, 0.6, 0.7, 0.9])
    labels = torch.tensor([0, 1, 0, 1])
    # accuracy − confidence: 1/2 − 0.575, 1 − 0.7, 0 − 0.9, weighted 2/4, 1/4, 1/4
    expected = 0.5 * 0.075 + 0.25 * 0.3 + 0.25 * 0.9
    assert ece(logits, labels, bins=5) == pytest.approx(expected, rel=1e-9)


def test_ece_of_one_bin_is_the_gap_between_accuracy_and_confidence():
    logits, labels = random_set(1)
    gap = abs(accuracy(logits, labels) - probabilities(logits).max(1).mean())
    assert ece(logits, labels, bins=1) == pytest.approx(gap, rel=1e-12)


@pytest.mark.parametrize("bins", [2, 15, 100])
def test_ece_follows_a_loop_over_the_bins(bins: int):
    logits, labels = random_set(2, count=200)
    p = probabilities(logits)
    confidence, right = p.max(1), p.argmax(1) == labels.numpy()
    total = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ece(logits, labels, bins=bins) == pytest.approx(total, rel=1e-10)


def test_a_certain_and_right_network_is_perfect():
    logits = 100 * torch.eye(3)
    labels = torch.arange(3)
    assert accuracy(logits, labels) == 1
    assert nll(logits, labels) == pytest.approx(0, abs=1e-12)
    assert ece(logits, labels) == pytest.approx(0, abs=1e-12)


def test_masked_classes_may_have_minus_infinity():
    logits = torch.tensor([[0.0, 0.0, -math.inf]])
    assert nll(logits, torch.tensor([1])) == pytest.approx(math.log(2))
    assert nll(logits, torch.tensor([2])) == math.inf


def test_leading_axes_are_merged():
    logits, labels = random_set(3, count=24)
    for score in (accuracy, nll, ece):
        shaped = score(logits.reshape(2, 3, 4, 4), labels.reshape(2, 3, 4))
        assert shaped == pytest.approx(score(logits, labels), rel=1e-12)


def test_half_precision_and_small_integers_are_accepted():
    logits, labels = random_set(4)
    low = logits.bfloat16()
    assert nll(low, labels.to(torch.uint8)) == pytest.approx(nll(low.double(), labels), rel=1e-12)


@pytest.mark.parametrize("score", [accuracy, nll, ece])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1]), r"shape \(3, 2\) need labels of shape \(3,\), n"),
        (torch.zeros(3), torch.tensor(0), r"logits of shape \(3,\) need"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "nothing to score"),
        (torch.zeros(2, 0), torch.zeros(2, dtype=torch.int64), "nothing to score"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "run from 0 to 3, but there are 3 classes"),
        (torch.zeros(2, 3), torch.tensor([-100, 2]), "run from -100 to 2, but there are 3"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "of torch.float32, expected the number"),
        (torch.full((2, 3), math.nan), torch.tensor([0, 1]), "6 of 6 logits are NaN"),
    ],
)
def test_a_set_that_cannot_be_scored_is_refused(score, logits, labels, message: str):
    with pytest.raises(DataError, match=message):
        score(logits, labels)


def test_ece_needs_a_bin():
    with pytest.raises(SettingsError, match="bins must be at least 1, not 0"):
        ece(*random_set(0), bins=0)


# A model


def model_and_state() -> tuple[nn.Sequential, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    other = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    other.get_buffer("1.running_var").fill_(3)
    return model, {name: tensor.clone() for name, tensor in other.state_dict().items()}


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 100])
def test_predictions_are_those_of_the_loaded_model_in_evaluation_mode(batch_size: int):
    model, state = model_and_state()
    inputs = torch.randn(10, 5)
    found = predict(model, state, inputs, batch_size=batch_size)
    model.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(found, model.eval()(inputs), rtol=0, atol=1e-6)
    assert not found.requires_grad


def test_the_model_is_left_as_found():
    model, state = model_and_state()
    model.train()
    model[2].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = {name: tensor.clone() for name, tensor in state.items()}
    evaluate(model, state, torch.randn(6, 5), torch.zeros(6, dtype=torch.int64))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, given[name]) for name, tensor in state.items())


def test_the_model_is_left_as_found_when_it_fails():
    model, state = model_and_state()
    with pytest.raises(DataError, match=r"fails on inputs \(6, 9\) .*shapes cannot be multiplied"):
        predict(model, state, torch.randn(6, 9))
    assert all(module.training for module in model.modules())


def test_evaluation_is_the_three_scores_of_the_predictions():
    model, state = model_and_state()
    inputs, labels = torch.randn(30, 5), torch.randint(4, (30,))
    logits = predict(model, state, inputs)
    expected = Scores(accuracy(logits, labels), nll(logits, labels), ece(logits, labels))
    assert evaluate(model, state, inputs, labels) == expected


def test_parameters_may_have_another_dtype_than_the_model():
    model, state = model_and_state()
    double = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
    assert predict(model, double, torch.randn(3, 5).double()).dtype == torch.float64


def test_what_cannot_be_evaluated_is_refused():
    model, state = model_and_state()
    with pytest.raises(DataError, match="there are no inputs"):
        predict(model, state, torch.zeros(0, 5))
    with pytest.raises(SettingsError, match="batch_size must be at least 1, not 0"):
        predict(model, state, torch.zeros(2, 5), batch_size=0)
    with pytest.raises(ParamsError, match=r"lack 0\.weight"):
        predict(model, {n: t for n, t in state.items() if n != "0.weight"}, torch.zeros(2, 5))
    with pytest.raises(DataError, match=r"labels of shape \(2,\), not \(3,\)"):
        evaluate(model, state, torch.zeros(2, 5), torch.zeros(3, dtype=torch.int64))


def test_a_model_without_plain_logits_is_refused():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(DataError, match="the model returns a tuple, expected a tensor"):
        predict(Two(), {}, torch.zeros(2, 5))


# Folds


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("sizes", [(10, 10), (7, 1, 3), (5, 0, 11, 2)])
def test_folds_cover_the_set_once_and_spread_every_class(count: int, sizes: tuple[int, ...]):
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=Generator().manual_seed(1))]
    folds = stratified_folds(labels, count, Generator().manual_seed(0))
    assert len(folds) == count
    assert sorted(torch.cat([fold.held_out for fold in folds]).tolist()) == list(range(len(labels)))
    for fold in folds:
        assert sorted([*fold.train.tolist(), *fold.held_out.tolist()]) == list(range(len(labels)))
    table = np.array([np.bincount(labels[fold.held_out], minlength=len(sizes)) for fold in folds])
    assert np.ptp(table, axis=0).max() <= 1
    assert np.ptp(table.sum(1)) <= 1


def test_folds_depend_on_nothing_but_the_generator():
    labels = torch.arange(20) % 4
    first, again, other = (
        [f.held_out.tolist() for f in stratified_folds(labels, 4, Generator().manual_seed(seed))]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_folds_need_enough_samples():
    with pytest.raises(SettingsError, match="must be at least 2, not 1"):
        stratified_folds(torch.arange(5), 1, Generator())
    with pytest.raises(DataError, match=r"shape \(3,\) cannot be split into 4 folds"):
        stratified_folds(torch.arange(3), 4, Generator())
    with pytest.raises(DataError, match=r"shape \(2, 2\) cannot be split"):
        stratified_folds(torch.zeros(2, 2), 2, Generator())
