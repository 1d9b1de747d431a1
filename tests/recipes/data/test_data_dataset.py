import numpy as np
import pytest
import torch
from torch import Tensor

from symport.errors import DataError
from symport_recipes.data import Dataset, Examples, normalise

IMAGES = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # one image, two channels
ONE = torch.zeros(1, dtype=torch.int64)


def floats(*shape: int) -> Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape)


def test_pixels_are_scaled_and_normalised_channel_by_channel():
    mean, std = (0.5, 0.1), (0.25, 0.2)
    expected = [[[[(0 - 0.5) / 0.25, (1 - 0.5) / 0.25]], [[(0.2 - 0.1) / 0.2, (0.4 - 0.1) / 0.2]]]]
    found = normalise(IMAGES, mean, std, torch.float64)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-15)
    assert torch.equal(IMAGES.flatten(), torch.tensor([0, 255, 51, 102], dtype=torch.uint8))


def test_floats_are_not_scaled_again():
    inputs = floats(2, 3)
    assert torch.equal(normalise(inputs), inputs)
    found = normalise(inputs, (1.0, 0.0, 2.0), (2.0, 1.0, 1.0))
    assert found.tolist() == [[-0.5, 1.0, 0.0], [1.0, 4.0, 3.0]]
    assert torch.equal(inputs, floats(2, 3))


def test_examples_normalise_once_what_they_would_normalise_each_time():
    examples = Examples(IMAGES, ONE, (0.5, 0.1), (0.25, 0.2))
    once = examples.normalised()
    assert torch.equal(once.inputs, examples.floats())
    assert torch.equal(once.floats(), once.inputs)
    assert once.floats(torch.float64).dtype == torch.float64


def test_taking_examples_keeps_inputs_and_labels_together():
    examples = Examples(floats(4, 2), torch.tensor([5, 6, 7, 8]), (1.0, 2.0), (3.0, 4.0))
    some = examples.take(torch.tensor([3, 0]))
    assert some.inputs.tolist() == [[6, 7], [0, 1]]
    assert some.labels.tolist() == [8, 5]
    assert (some.mean, some.std, len(some)) == (examples.mean, examples.std, 2)


@pytest.mark.parametrize("index", [[4], [-1], [0, 9]])
def test_taking_what_is_not_there_is_refused(index: list[int]):
    examples = Examples(floats(4, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match="an index points outside the 4 examples"):
        examples.take(torch.tensor(index))


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (floats(2, 3), torch.zeros(2), r"labels are torch.float32 of shape \(2,\); expected"),
        (floats(2, 3), torch.zeros(2, 1, dtype=torch.int64), r"of shape \(2, 1\)"),
        (floats(0, 3), torch.zeros(0, dtype=torch.int64), "there is no example"),
        (floats(2, 3), torch.tensor([0, -1]), "a label is -1; labels count from 0"),
        (floats(3, 3), torch.tensor([0, 1]), r"inputs have shape \(3, 3\) for 2 labels"),
        (floats(2), torch.tensor([0, 1]), r"inputs have shape \(2,\) for 2 labels"),
        (floats(2, 3).long(), torch.tensor([0, 1]), "inputs are torch.int64; expected torch.uint8"),
    ],
)
def test_inputs_and_labels_that_do_not_belong_together_are_refused(
    inputs: Tensor, labels: Tensor, message: str
):
    with pytest.raises(DataError, match=message):
        Examples(inputs, labels)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (0.5,), "mean has 1 entries, the inputs have 2 channels"),
        ((0.5, 0.5), (), "one positive std for each mean"),
        ((0.5, 0.5), (0.5, 0.0), "one positive std for each mean"),
    ],
)
def test_moments_that_do_not_fit_the_channels_are_refused(
    mean: tuple[float, ...], std: tuple[float, ...], message: str
):
    with pytest.raises(DataError, match=message):
        Examples(IMAGES, ONE, mean, std)


def test_the_halves_of_a_data_set_share_its_moments():
    data = Dataset("x", IMAGES, ONE, IMAGES, ONE, 1, (0.5, 0.1), (0.25, 0.2))
    for half in (data.train, data.test):
        assert torch.equal(half.floats(), normalise(IMAGES, data.mean, data.std))


def test_a_label_without_a_class_is_refused():
    with pytest.raises(DataError, match="x: a training label is 3; there are 3 classes"):
        Dataset("x", IMAGES, ONE + 3, IMAGES, ONE, 3)
    with pytest.raises(DataError, match="x: a test label is 3; there are 3 classes"):
        Dataset("x", IMAGES, ONE, IMAGES, ONE + 3, 3)


@pytest.mark.parametrize("other", [IMAGES.float(), IMAGES[..., :1]])
def test_halves_of_different_inputs_are_refused(other: Tensor):
    with pytest.raises(DataError, match=r"a training input is torch.uint8 of shape \(2, 1, 2\)"):
        Dataset("x", IMAGES, ONE, other, ONE, 1)
