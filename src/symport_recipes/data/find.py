"""Find the folder of a data set, and load one by its name."""

import os
from pathlib import Path

from symport.errors import DataError, FileError
from symport_recipes.data.cifar import cifar10, cifar100
from symport_recipes.data.dataset import Dataset
from symport_recipes.data.digits import digits
from symport_recipes.data.mnist import mnist

VARIABLE = "SYMPORT_DATA"
FOLDERS = {
    "mnist": "mnist",
    "fashion-mnist": "fashion-mnist",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
NAMES = ("digits", *FOLDERS)


def find_data(name: str) -> Path:
    """Find the folder that holds a data set.

    It is looked for in the folder that the environment variable SYMPORT_DATA names, then in
    `../shared/data` beside the repository and beside the working folder.

    Args:
        name: `mnist`, `fashion-mnist`, `cifar10` or `cifar100`.

    Raises:
        DataError: There is no data set of this name.
        FileError: The folder is in none of these places, which the message lists, or SYMPORT_DATA
            names no folder.
    """
    if name not in FOLDERS:
        raise DataError(f"{name!r} is not a data set in files; choose from {', '.join(FOLDERS)}")
    tried = [place / FOLDERS[name] for place in _places()]
    for folder in tried:
        if folder.is_dir():
            return folder
    listed = ", ".join(str(folder) for folder in tried)
    raise FileError(
        f"{name}: no folder {FOLDERS[name]!r} found (tried {listed}); put the official files into "
        f"a folder of that name and set {VARIABLE} to the folder above it"
    )


def load(name: str, folder: Path | None = None) -> Dataset:
    """Load a data set by its name.

    Args:
        name: `digits`, or one that `find_data` knows.
        folder: Where its files are; found by `find_data` if not given.

    Raises:
        DataError: There is no data set of this name, or its content is wrong.
        FileError: Its files are missing or damaged.
    """
    if name == "digits":
        return digits()
    if name not in FOLDERS:
        raise DataError(f"{name!r} is not a data set; choose from {', '.join(NAMES)}")
    folder = folder if folder is not None else find_data(name)
    if name == "cifar10":
        return cifar10(folder)
    if name == "cifar100":
        return cifar100(folder)
    return mnist(folder, name=name)


def _places() -> list[Path]:
    repository = Path(__file__).resolve().parents[3]
    shared = [base.parent / "shared" / "data" for base in (repository, Path.cwd())]
    named = os.environ.get(VARIABLE)
    if named and not Path(named).is_dir():
        raise FileError(f"{VARIABLE} is {named!r}, which is not a folder; correct or unset it")
    places = [Path(named), *shared] if named else shared
    return list(dict.fromkeys(places))
