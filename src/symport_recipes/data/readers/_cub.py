"""CUB-200-2011 (Wah et al. 2011) from its images and text files."""

from pathlib import Path

import torch

from symport.errors import DataError, FileError
from symport_recipes.data._encoded import whole_files
from symport_recipes.data._images import SIZE, LazyDataset
from symport_recipes.data.readers._folders import Listing, paired
from symport_recipes.data.readers._raw import read_bytes, require_file


def cub(folder: Path, *, size: int = SIZE) -> LazyDataset:
    """Read CUB-200-2011; whole images, the bounding boxes are not used.

    Args:
        folder: Holds `images`, `images.txt`, `classes.txt`, `image_class_labels.txt` and
            `train_test_split.txt`.
        size: Of the decoded images, in pixels.

    Raises:
        FileError: A file is missing or not of this format.
        DataError: The lists do not name the same images, or a label is out of range.
    """
    paths = _table(folder, "images.txt")
    labels = _table(folder, "image_class_labels.txt")
    training = _table(folder, "train_test_split.txt")
    classes = _table(folder, "classes.txt")
    if not paths.keys() == labels.keys() == training.keys():
        raise DataError(
            f"{folder}: images.txt, image_class_labels.txt and train_test_split.txt have "
            f"{len(paths)}, {len(labels)} and {len(training)} lines, not for the same images; "
            "unpack the official archive again"
        )
    if unknown := set(labels.values()) - classes.keys():
        raise DataError(f"{folder}: classes.txt does not name class {min(unknown)}")
    place = {number: k for k, number in enumerate(classes)}

    def listing(flag: str) -> Listing:
        chosen = [image for image in paths if training[image] == flag]
        files = whole_files(folder / "images", [paths[image] for image in chosen])
        numbers = torch.tensor([place[labels[image]] for image in chosen], dtype=torch.int64)
        return Listing(files, numbers, tuple(classes.values()))

    return paired("cub", listing("1"), listing("0"), size)


def _table(folder: Path, name: str) -> dict[str, str]:
    """Lines of a number and a text, in the order of the file."""
    path = require_file(folder, name)
    try:
        lines = read_bytes(path).decode().splitlines()
        return dict(line.split() for line in lines if line)
    except ValueError as error:  # of decoding as well
        raise FileError(
            f"{path}: a line is not a number and a name; use the official file"
        ) from error
