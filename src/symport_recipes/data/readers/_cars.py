"""Stanford Cars (Krause et al. 2013) from its official folders and annotations."""

from pathlib import Path

import torch

from symport.errors import DataError, FileError
from symport_recipes.data._encoded import whole_files
from symport_recipes.data._images import SIZE, LazyDataset
from symport_recipes.data.readers._folders import Listing, paired
from symport_recipes.data.readers._matlab import read_column
from symport_recipes.data.readers._raw import read_bytes


def cars(folder: Path, *, size: int = SIZE) -> LazyDataset:
    """Read Stanford Cars; whole images, the bounding boxes are not used.

    Args:
        folder: Holds `cars_train`, `cars_test`, `devkit/cars_meta.mat`,
            `devkit/cars_train_annos.mat`, and `cars_test_annos_withlabels.mat`, there or in
            `devkit`.
        size: Of the decoded images, in pixels.

    Raises:
        FileError: A file is missing, damaged or not of this format.
        DataError: A label is out of range.
    """
    meta = _file(folder, "cars_meta.mat")
    classes = tuple(map(str, read_column(read_bytes(meta), meta, "class_names")))
    return paired(
        "cars",
        _half(folder, "cars_train_annos.mat", "cars_train", classes),
        _half(folder, "cars_test_annos_withlabels.mat", "cars_test", classes),
        size,
    )


def _half(folder: Path, annotations: str, images: str, classes: tuple[str, ...]) -> Listing:
    path = _file(folder, annotations)
    content = read_bytes(path)
    names = read_column(content, path, "annotations", "fname")
    numbers = read_column(content, path, "annotations", "class")
    if not all(type(number) is int and 1 <= number <= len(classes) for number in numbers):
        raise DataError(f"{path}: a class is not a number from 1 to {len(classes)}")
    return Listing(
        whole_files(folder / images, list(map(str, names))), torch.tensor(numbers) - 1, classes
    )


def _file(folder: Path, name: str) -> Path:
    for path in (folder / "devkit" / name, folder / name):
        if path.is_file():
            return path
    raise FileError(f"{folder / 'devkit' / name}: no such file; put Stanford's file there")
