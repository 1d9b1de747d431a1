"""CIFAR-10 and CIFAR-100 from their official python batches, plain or packed."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from symport.errors import DataError, FileError
from symport_recipes.data._dataset import IMAGENET_MEAN, IMAGENET_STD, Dataset
from symport_recipes.data.readers._pickles import read_pickle
from symport_recipes.data.readers._raw import find_file, md5, read_bytes, require_file

TRAIN_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR100_CLASSES = 100
SHAPE = (3, 32, 32)


def cifar10(folder: Path) -> Dataset:
    """Read the official batches of CIFAR-10 that a folder holds.

    Every file must have its official md5 (after unpacking). Training batches may be missing; the
    result then says so in `note`.

    Args:
        folder: Holds `data_batch_1` to `data_batch_5` and `test_batch`, each plain or packed.

    Returns:
        Images of shape `(n, 3, 32, 32)`, uint8, to be normalised as ImageNet is (as in the paper).

    Raises:
        FileError: The test batch or all training batches are missing, or an md5 is wrong.
        DataError: A batch holds other than images with labels 0 to 9.
    """
    present = [name for name in TRAIN_BATCHES if find_file(folder, name) is not None]
    if not present:
        raise FileError(f"{folder}: holds none of {TRAIN_BATCHES[0]} to {TRAIN_BATCHES[-1]}")
    parts = [_official(folder, name) for name in present]
    absent = [name for name in TRAIN_BATCHES if name not in present]
    note = f"{len(present)} of 5 training batches; missing: {', '.join(absent)}" if absent else ""
    test_inputs, test_labels = _official(folder, "test_batch")
    return Dataset(
        "cifar10",
        torch.cat([images for images, _ in parts]),
        torch.cat([labels for _, labels in parts]),
        test_inputs,
        test_labels,
        classes=10,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        note=note,
    )


def cifar100(folder: Path) -> Dataset:
    """Read CIFAR-100, whole or a subset of its classes, by fine labels.

    The classes that occur are numbered 0 to k-1 in the order of their official numbers.

    Args:
        folder: Holds `train` and `test`, each plain or packed.

    Returns:
        Images of shape `(n, 3, 32, 32)`, uint8, to be normalised as ImageNet is; `note` lists
        the official numbers of the classes if they are not all there.

    Raises:
        FileError: A file is missing, damaged, or holds more than lists and arrays.
        DataError: A file holds other than images with labels 0 to 99, or a class occurs only in
            the test set.
    """
    train_inputs, train_labels = _batch(folder, "train", "fine_labels", CIFAR100_CLASSES)
    test_inputs, test_labels = _batch(folder, "test", "fine_labels", CIFAR100_CLASSES)
    present = train_labels.unique()
    if only_test := sorted(set(test_labels.tolist()) - set(present.tolist())):
        raise DataError(f"{folder}: classes {only_test} occur in the test set only")
    k = len(present)
    return Dataset(
        "cifar100",
        train_inputs,
        torch.searchsorted(present, train_labels),
        test_inputs,
        torch.searchsorted(present, test_labels),
        classes=k,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        note="" if k == CIFAR100_CLASSES else f"{k} of 100 classes: {present.tolist()}",
    )


def _official(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """A batch of CIFAR-10, opened only once its md5 is known to be right."""
    path = require_file(folder, name)
    content = read_bytes(path)
    if (found := md5(content)) != CIFAR10_MD5[name]:
        raise FileError(
            f"{path}: md5 {found}, the official file has {CIFAR10_MD5[name]}; "
            "fetch cifar-10-python.tar.gz again"
        )
    return _images(read_pickle(content, path), "labels", 10, path)


def _batch(folder: Path, name: str, key: str, classes: int) -> tuple[Tensor, Tensor]:
    path = require_file(folder, name)
    return _images(read_pickle(read_bytes(path), path), key, classes, path)


def _images(batch: dict[str, Any], key: str, classes: int, path: Path) -> tuple[Tensor, Tensor]:
    images, labels = batch.get("data"), batch.get(key)
    if not isinstance(images, Tensor) or images.ndim != 2 or images.shape[1] != 3 * 32 * 32:
        raise DataError(f"{path}: expected 'data' of shape (n, 3072)")
    if not isinstance(labels, list) or len(labels) != len(images) or not labels:
        raise DataError(f"{path}: expected {len(images)} labels under '{key}', one for each image")
    if not all(type(label) is int and 0 <= label < classes for label in labels):
        raise DataError(f"{path}: a label under '{key}' is not a number from 0 to {classes - 1}")
    return images.reshape(-1, *SHAPE), torch.tensor(labels)
