from pathlib import Path

import numpy as np
import pytest
import torch
from tinyfiles import PACK, real_data, write_idx, write_mnist

from symport.errors import DataError, FileError
from symport_recipes.data import mnist


@pytest.mark.parametrize("ending", PACK)
def test_images_and_labels_stay_in_step(tmp_path: Path, ending: str):
    write_mnist(tmp_path, ending=ending)
    data = mnist(tmp_path)
    assert data.train_inputs.shape == (5, 1, 2, 3)
    assert data.train_inputs[4].flatten().tolist() == [24, 25, 26, 27, 28, 29]
    assert data.train_labels.tolist() == [3, 1, 4, 1, 9]
    assert data.test_inputs.shape == (3, 1, 2, 3)
    assert data.test_labels.tolist() == [2, 7, 0]
    assert (data.name, data.classes, data.note) == ("mnist", 10, "")


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path: Path):
    write_mnist(tmp_path)
    data = mnist(tmp_path)
    pixels = np.arange(30) / 255
    assert data.mean == pytest.approx((pixels.mean(),))
    assert data.std == pytest.approx((pixels.std(),))
    floats = data.train.floats(torch.float64)
    assert abs(float(floats.mean())) < 1e-12
    assert float(floats.std(correction=0)) == pytest.approx(1)


def test_a_data_set_of_the_same_format_keeps_its_own_name(tmp_path: Path):
    write_mnist(tmp_path)
    assert mnist(tmp_path, name="fashion-mnist").name == "fashion-mnist"


def test_a_missing_file_is_named(tmp_path: Path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileError, match="t10k-labels-idx1-ubyte: no such file"):
        mnist(tmp_path)


def test_labels_in_place_of_images_are_refused(tmp_path: Path):
    write_mnist(tmp_path)
    write_idx(tmp_path, "train-images-idx3-ubyte", (5,), bytes(5))
    with pytest.raises(FileError, match="train-images-idx3-ubyte: starts with 00 00 08 01"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((bytes(4), bytes(3)), "train has 5 images and 4 labels; fetch both"),
        ((bytes(5), bytes(4)), "t10k has 3 images and 4 labels"),
        ((bytes(5), bytes((0, 10, 1))), "a test label is 10; there are 10 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, labels: tuple[bytes, bytes], message: str
):
    write_mnist(tmp_path, labels=labels)
    with pytest.raises(DataError, match=message):
        mnist(tmp_path)


def test_an_empty_half_is_refused(tmp_path: Path):
    write_mnist(tmp_path)
    write_idx(tmp_path, "t10k-images-idx3-ubyte", (0, 2, 3), b"")
    write_idx(tmp_path, "t10k-labels-idx1-ubyte", (0,), b"")
    with pytest.raises(DataError, match="t10k has 0 images"):
        mnist(tmp_path)


def test_blank_images_are_refused(tmp_path: Path):
    write_mnist(tmp_path)
    write_idx(tmp_path, "train-images-idx3-ubyte", (5, 2, 3), bytes(30))
    with pytest.raises(DataError, match="all training pixels are equal"):
        mnist(tmp_path)


def test_the_official_files_have_the_published_counts():
    data = mnist(real_data("mnist"))
    assert data.train_inputs.shape == (60000, 1, 28, 28)
    # LeCun, Cortes and Burges; mean and deviation as in PyTorch's MNIST example.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train_labels.bincount().tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.test_labels.bincount().tolist() == counts
    assert (round(data.mean[0], 4), round(data.std[0], 4)) == (0.1307, 0.3081)
