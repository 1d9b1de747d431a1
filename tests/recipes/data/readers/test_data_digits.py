import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from symport.errors import DataError
from symport_recipes.data import digits, load


def test_digits_are_split_into_1200_and_597():
    data = digits()
    assert data.train_inputs.shape == (1200, 64)
    assert data.test_inputs.shape == (597, 64)
    assert data.classes == 10
    assert (float(data.train_inputs.min()), float(data.train_inputs.max())) == (0.0, 1.0)


def test_both_halves_together_are_all_digits_of_scikit_learn():
    data, (images, labels) = digits(seed=3), load_digits(return_X_y=True)
    found = {
        (int(label), *row)
        for examples in (data.train, data.test)
        for label, row in zip(examples.labels, (16 * examples.inputs).tolist(), strict=True)
    }
    expected = {(int(t), *row) for t, row in zip(labels, np.asarray(images).tolist(), strict=True)}
    assert found == expected


def test_every_digit_has_its_share_of_both_halves():
    data = digits()
    _, labels = load_digits(return_X_y=True)
    total = torch.tensor(labels).bincount()
    exact = total * 1200 / 1797
    assert (data.train_labels.bincount() - exact).abs().max() < 1


def test_one_seed_gives_one_split():
    assert torch.equal(digits(1).train_inputs, digits(1).train_inputs)
    assert not torch.equal(digits(1).train_inputs, digits(2).train_inputs)
    assert torch.equal(load("digits").train_inputs, digits(0).train_inputs)


def test_without_scikit_learn_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'symport\[recipes\]'"):
        digits()
