"""Any folder of images: `train/<class>/*.jpg`, and the same under `val` or `test`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from symport.errors import DataError, FileError
from symport_recipes.data._encoded import Encoded, whole_files
from symport_recipes.data._images import SIZE, LazyDataset, LazyImages

ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class Listing:
    """Half of a data set, as its folder or tar lists it.

    Attributes:
        encoded: The images.
        labels: Places among `classes`, shape `(n,)`, int64.
        classes: Their names.
        left_out: Files that are no images by their name.
    """

    encoded: Encoded
    labels: Tensor
    classes: tuple[str, ...]
    left_out: int = 0


def image_folder(folder: Path, *, size: int = SIZE) -> LazyDataset:
    """Read a folder with one folder for each class in both of its halves.

    Args:
        folder: Holds `train`, and `val` or `test`. Classes count in the order of their names.
        size: Of the decoded images, in pixels.

    Returns:
        A data set named as its folder; `note` says how many files were left out because their
        names do not end in .jpg, .jpeg or .png.

    Raises:
        FileError: A half is missing, or a class has no image.
        DataError: The halves have different classes.
    """
    return paired(
        folder.resolve().name,
        class_folders(folder / "train"),
        class_folders(half(folder, "val", "test")),
        size,
    )


def half(folder: Path, *names: str) -> Path:
    """The first of these folders that is there."""
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise FileError(f"{folder}: holds no folder {' or '.join(names)}; put the images there")


def class_folders(folder: Path) -> Listing:
    """List the images of a folder that holds one folder for each class.

    Raises:
        FileError: It holds no folder, or one without images.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; put one folder of images for each class there")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise FileError(f"{folder}: holds no folder; put one folder of images for each class there")
    names: list[str] = []
    counts: list[int] = []
    left_out = 0
    for name in classes:
        files = sorted(path.name for path in (folder / name).iterdir() if path.is_file())
        images = [file for file in files if file.lower().endswith(ENDINGS)]
        if not images:
            raise FileError(
                f"{folder / name}: holds no {', '.join(ENDINGS)} file; fill or remove it"
            )
        names += [f"{name}/{file}" for file in images]
        counts.append(len(images))
        left_out += len(files) - len(images)
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    return Listing(whole_files(folder, names), labels, tuple(classes), left_out)


def paired(name: str, train: Listing, test: Listing, size: int) -> LazyDataset:
    """A data set of two halves.

    Raises:
        DataError: Their classes differ.
    """
    if train.classes != test.classes:
        ours, theirs = set(train.classes), set(test.classes)
        raise DataError(
            f"{name}: {len(ours)} classes to train on, {len(theirs)} to test on; only in training: "
            f"{_some(ours - theirs)}, only in the test: {_some(theirs - ours)}"
        )
    left_out = train.left_out + test.left_out
    return LazyDataset(
        name,
        LazyImages(train.encoded, train.labels, size),
        LazyImages(test.encoded, test.labels, size),
        train.classes,
        note=f"{left_out} files that are no .jpg or .png left out" if left_out else "",
    )


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "") or "none"
