"""MNIST and Fashion-MNIST from their official idx files."""

from pathlib import Path

from torch import Tensor

from symport.errors import DataError
from symport_recipes.data._dataset import Dataset
from symport_recipes.data.readers._idx import read_idx
from symport_recipes.data.readers._raw import require_file

CLASSES = 10


def mnist(folder: Path, *, name: str = "mnist") -> Dataset:
    """Read the four idx files of MNIST, or of Fashion-MNIST, which has the same format.

    Args:
        folder: Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with
            `t10k`, each plain or packed.
        name: Of the result.

    Returns:
        Images of shape `(n, 1, height, width)`, uint8, with mean and standard deviation measured
        over the training pixels (MNIST: .1307 and .3081).

    Raises:
        FileError: A file is missing, damaged, cut short, or not of this format.
        DataError: Images and labels differ in number, there are none, or a label is above 9.
    """
    train_inputs, train_labels = _half(folder, "train")
    test_inputs, test_labels = _half(folder, "t10k")
    mean, std = _moments(train_inputs, folder)
    return Dataset(
        name, train_inputs, train_labels, test_inputs, test_labels, CLASSES, (mean,), (std,)
    )


def _half(folder: Path, half: str) -> tuple[Tensor, Tensor]:
    images = read_idx(require_file(folder, f"{half}-images-idx3-ubyte"), 3)
    labels = read_idx(require_file(folder, f"{half}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(
            f"{folder}: {half} has {len(images)} images and {len(labels)} labels; "
            "fetch both files from the same source"
        )
    return images.unsqueeze(1), labels.long()


def _moments(images: Tensor, folder: Path) -> tuple[float, float]:
    counts = images.flatten().bincount(minlength=256).double()
    values = counts.new_tensor(range(256)) / 255
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    if variance == 0:
        raise DataError(f"{folder}: all training pixels are equal; the images are blank")
    return mean, variance**0.5
