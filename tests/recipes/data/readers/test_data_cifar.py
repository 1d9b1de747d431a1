import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tinyfiles import python2_pickle, real_data, write_batch

from symport.errors import DataError, FileError
from symport_recipes.data import cifar10, cifar100
from symport_recipes.data.readers import _cifar as cifar
from symport_recipes.data.readers._pickles import read_pickle

LABELS = {"data_batch_1": [3, 9], "data_batch_3": [0], "test_batch": [5, 5, 1]}


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str = ".xz") -> None:
    """Two of the five training batches and the test batch, their sums declared official."""
    for seed, (name, labels) in enumerate(LABELS.items()):
        content = write_batch(folder / f"{name}{ending}", "labels", labels, seed=seed)
        monkeypatch.setitem(cifar.CIFAR10_MD5, name, hashlib.md5(content).hexdigest())


@pytest.mark.parametrize("ending", ["", ".xz", ".gz"])
def test_batches_are_joined_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
):
    write_cifar10(tmp_path, monkeypatch, ending)
    data = cifar10(tmp_path)
    assert data.train_inputs.shape == (3, 3, 32, 32)
    assert data.train_inputs.dtype == torch.uint8
    assert data.train_labels.tolist() == [3, 9, 0]
    assert data.test_labels.tolist() == [5, 5, 1]
    assert data.classes == 10


def test_missing_training_batches_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cifar10(tmp_path, monkeypatch)
    note = "2 of 5 training batches; missing: data_batch_2, data_batch_4, data_batch_5"
    assert cifar10(tmp_path).note == note


def test_red_green_and_blue_are_planes_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # "The first 1024 entries contain the red channel values, the next 1024 the green, and the
    # final 1024 the blue. The image is stored in row-major order." (the data set's own page)
    pixels = np.zeros((1, 3072), np.uint8)
    pixels[0, [0, 31, 32, 1024, 3071]] = (1, 2, 3, 4, 5)
    content = python2_pickle(b"labels", [0], (1, 3072), pixels.tobytes())
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(content)
        monkeypatch.setitem(cifar.CIFAR10_MD5, name, hashlib.md5(content).hexdigest())
    image = cifar10(tmp_path).train_inputs[0]
    assert (image[0, 0, 0], image[0, 0, 31], image[0, 1, 0]) == (1, 2, 3)
    assert (image[1, 0, 0], image[2, 31, 31]) == (4, 5)


def test_a_file_that_is_not_the_official_one_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_cifar10(tmp_path, monkeypatch)
    write_batch(tmp_path / "test_batch.xz", "labels", [0], seed=9)
    opened: list[str] = []

    def watched(content: bytes, path: Path) -> dict[str, object]:
        opened.append(path.name)
        return read_pickle(content, path)

    monkeypatch.setattr(cifar, "read_pickle", watched)
    with pytest.raises(FileError, match=r"test_batch.xz: md5 \w{32}, the official file has \w{32}"):
        cifar10(tmp_path)
    assert opened == ["data_batch_1.xz", "data_batch_3.xz"]


def test_a_folder_without_batches_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FileError, match="holds none of data_batch_1 to data_batch_5"):
        cifar10(tmp_path)
    write_cifar10(tmp_path, monkeypatch)
    (tmp_path / "test_batch.xz").unlink()
    with pytest.raises(FileError, match="test_batch: no such file"):
        cifar10(tmp_path)


def test_classes_are_numbered_anew_in_their_official_order(tmp_path: Path):
    write_batch(tmp_path / "train.xz", "fine_labels", [82, 4, 54, 4])
    write_batch(tmp_path / "test", "fine_labels", [54, 82])
    data = cifar100(tmp_path)
    assert data.classes == 3
    assert data.train_labels.tolist() == [2, 0, 1, 0]
    assert data.test_labels.tolist() == [1, 2]
    assert data.note == "3 of 100 classes: [4, 54, 82]"


def test_the_whole_of_cifar_100_needs_no_note(tmp_path: Path):
    write_batch(tmp_path / "train", "fine_labels", list(range(100)))
    write_batch(tmp_path / "test", "fine_labels", [99])
    data = cifar100(tmp_path)
    assert (data.classes, data.note, data.test_labels.tolist()) == (100, "", [99])


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path):
    write_batch(tmp_path / "train", "fine_labels", [4, 5])
    write_batch(tmp_path / "test", "fine_labels", [6, 4, 7])
    with pytest.raises(DataError, match=r"classes \[6, 7\] occur in the test set only"):
        cifar100(tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"fine_labels": [1]}, r"train: expected 'data' of shape \(n, 3072\)"),
        ({"data": np.zeros((1, 3071), np.uint8), "fine_labels": [1]}, "expected 'data' of shape"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1]}, "expected 2 labels under"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1]}, "1 labels under 'fine_labels'"),
        (python2_pickle(b"fine_labels", [], (0, 3072), b""), "expected 0 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100]}, "from 0 to 99"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [-1]}, "not a number from 0"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": ["1"]}, "not a number from 0"),
    ],
)
def test_a_batch_of_other_content_is_refused(
    tmp_path: Path, batch: dict[str, object] | bytes, message: str
):
    content = batch if isinstance(batch, bytes) else pickle.dumps(batch, protocol=2)
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(DataError, match=message):
        cifar100(tmp_path)


@pytest.mark.slow
def test_the_official_cifar_10_is_read():
    data = cifar10(real_data("cifar-10-batches-py"))
    assert len(data.train) == 50_000 or f"{len(data.train) // 10_000} of 5" in data.note
    assert data.test_labels.bincount().tolist() == [1000] * 10
    assert data.test_labels[:5].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog


@pytest.mark.slow
def test_the_classes_of_cifar_100_at_hand_are_whole():
    data = cifar100(real_data("cifar-100-python"))
    assert data.train_labels.bincount().tolist() == [500] * data.classes
    assert data.test_labels.bincount().tolist() == [100] * data.classes
