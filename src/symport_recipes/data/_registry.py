"""Find the folder of a data set, and load one by its name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from symport.errors import DataError, FileError
from symport_recipes.data._dataset import Dataset
from symport_recipes.data._images import SIZE, LazyDataset
from symport_recipes.data._places import VARIABLE, data_folders
from symport_recipes.data.readers import (
    cars,
    cifar10,
    cifar100,
    cub,
    digits,
    image_folder,
    imagenet,
    mnist,
)

FOLDERS = {
    "mnist": "mnist",
    "fashion-mnist": "fashion-mnist",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "imagenet": "imagenet",
    "cars": "stanford_cars",
    "cub": "CUB_200_2011",
}
SMALL: dict[str, Callable[[Path], Dataset]] = {
    "mnist": mnist,
    "fashion-mnist": partial(mnist, name="fashion-mnist"),
    "cifar10": cifar10,
    "cifar100": cifar100,
}
NAMES = ("digits", *FOLDERS, "folder")


def find_data(name: str) -> Path:
    """Find the folder that holds a data set.

    It is looked for in the folder that the environment variable SYMPORT_DATA names, then where
    `fetch` puts it, in the user's cache.

    Args:
        name: `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `imagenet`, `cars` or `cub`.

    Raises:
        DataError: There is no data set of this name.
        FileError: The folder is in none of these places, which the message lists, or SYMPORT_DATA
            names no folder.
    """
    if name not in FOLDERS:
        raise DataError(f"{name!r} is not a data set in files; choose from {', '.join(FOLDERS)}")
    tried = [place / FOLDERS[name] for place in data_folders()]
    for folder in tried:
        if folder.is_dir():
            return folder
    listed = ", ".join(str(folder) for folder in tried)
    raise FileError(
        f"{name}: no folder {FOLDERS[name]!r} found (tried {listed}); put the official files into "
        f"a folder of that name and set {VARIABLE} to the folder above it, or try "
        f"`symport-recipes fetch {name} --to FOLDER`"
    )


def load(
    name: str,
    folder: Path | None = None,
    *,
    size: int = SIZE,
    cache: Path | None = None,
    show: bool = False,
) -> Dataset:
    """Load a data set into memory by its name.

    Args:
        name: `digits`, one that `find_data` knows, or `folder` for any folder of images.
        folder: Where its files are; found by `find_data` if not given.
        size: Of photographs, in pixels.
        cache: Folder where decoded photographs are kept.
        show: Show a progress bar while they are decoded.

    Raises:
        DataError: There is no data set of this name, or its content is wrong.
        FileError: Its files are missing or damaged.
    """
    if name == "digits":
        return digits()
    if name in SMALL:
        return SMALL[name](folder if folder is not None else find_data(name))
    return load_lazy(name, folder, size=size, cache=cache, show=show).load(cache, show=show)


def load_lazy(
    name: str,
    folder: Path | None = None,
    *,
    size: int = SIZE,
    cache: Path | None = None,
    show: bool = False,
) -> LazyDataset:
    """Open `imagenet`, `cars`, `cub` or `folder` without decoding; the rest as `load`."""
    if name not in NAMES:
        raise DataError(f"{name!r} is not a data set; choose from {', '.join(NAMES)}")
    if name == "folder" and folder is None:
        raise DataError("a folder of images has no place of its own; say where it is")
    if name in SMALL or name == "digits":
        raise DataError(f"{name!r} is not stored as single images; load it whole")
    folder = folder if folder is not None else find_data(name)
    if name == "imagenet":
        return imagenet(folder, size=size, cache=cache, show=show)
    return {"cars": cars, "cub": cub, "folder": image_folder}[name](folder, size=size)
