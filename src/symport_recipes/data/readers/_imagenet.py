"""ImageNet (ILSVRC 2012) from folders or from its official tars, which are never unpacked.

Classes count in the order of their WordNet numbers, as in published checkpoints.
"""

import hashlib
import json
import tarfile
import zlib
from pathlib import Path

import torch

from symport.errors import DataError, FileError
from symport.io import make_folder, open_tensors, save_tensors
from symport.progress import bar
from symport_recipes.data._encoded import Encoded, Member, tar_members, tar_slices, whole_files
from symport_recipes.data._images import SIZE, LazyDataset
from symport_recipes.data.readers._folders import ENDINGS, Listing, class_folders, paired
from symport_recipes.data.readers._matlab import read_column
from symport_recipes.data.readers._raw import LIMIT, read_bytes

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def imagenet(
    folder: Path, *, size: int = SIZE, cache: Path | None = None, show: bool = False
) -> LazyDataset:
    """Read ImageNet, or a subset of its classes.

    Args:
        folder: Holds `train/<wnid>/` or the training tar; `val/<wnid>/`, or `val/` or the
            validation tar together with the devkit (its folder or its `.tar.gz`). Files as they
            are called officially.
        size: Of the decoded images, in pixels.
        cache: Folder for the index of the training tar, which takes minutes to make.
        show: Show a progress bar while it is made.

    Raises:
        FileError: A file is missing, damaged or cut short.
        DataError: The halves have different classes, or validation images lack labels.
    """
    if (folder / "train").is_dir():
        train = class_folders(folder / "train")
    else:
        train = _training_tar(_require(folder, TRAIN_TAR, "nor a folder train"), cache, show)
    return paired("imagenet", train, _validation(folder), size)


def _validation(folder: Path) -> Listing:
    flat = folder / "val"
    if flat.is_dir() and any(path.is_dir() for path in flat.iterdir()):
        return class_folders(flat)
    if flat.is_dir():
        names = sorted(path.name for path in flat.iterdir() if path.name.lower().endswith(ENDINGS))
        encoded = whole_files(flat, names)
    else:
        tar = _require(folder, VAL_TAR, "nor a folder val")
        encoded = tar_slices(tar, tar_members(tar))
    classes, labels = _devkit(folder)
    if len(encoded) != len(labels):
        raise DataError(
            f"{folder}: {len(encoded)} validation images, but {TRUTH} has {len(labels)} labels; "
            "unpack or copy the official files again"
        )
    return Listing(encoded, torch.tensor(labels, dtype=torch.int64), classes)


def _devkit(folder: Path) -> tuple[tuple[str, ...], list[int]]:
    """The classes in order, and the class of each validation image."""
    path = folder / DEVKIT / "data" / "meta.mat"
    meta = _devkit_file(folder, "meta.mat")
    columns = [
        read_column(meta, path, "synsets", field)
        for field in ("ILSVRC2012_ID", "WNID", "num_children")
    ]
    leaves = {number: wnid for number, wnid, children in zip(*columns, strict=True) if not children}
    classes = tuple(sorted(map(str, leaves.values())))
    place = {number: classes.index(str(wnid)) for number, wnid in leaves.items()}
    try:
        return classes, [place[int(line)] for line in _devkit_file(folder, TRUTH).split()]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path.with_name(TRUTH)}: {error} is no class of meta.mat") from error


def _devkit_file(folder: Path, name: str) -> bytes:
    unpacked, packed = folder / DEVKIT / "data" / name, folder / f"{DEVKIT}.tar.gz"
    if unpacked.is_file() or not packed.is_file():
        return read_bytes(_require(unpacked.parent, name, f"nor {packed}"))
    try:
        with tarfile.open(packed, "r:gz") as tar:
            file = tar.extractfile(f"{DEVKIT}/data/{name}")  # a stream: nothing is written
            return file.read(LIMIT) if file else b""
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise FileError(
            f"{packed}: {name} cannot be read from it ({error}); copy it again"
        ) from error


def _training_tar(path: Path, cache: Path | None, show: bool) -> Listing:
    """The tar of tars, one for each class; its index is kept in the cache."""
    if cache is None:
        return _index(path, show)
    stat = path.stat()
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    index = cache / f"index-{hashlib.sha256(key.encode()).hexdigest()[:20]}.safetensors"
    if not index.exists():
        found = _index(path, show)
        places = {"starts": found.encoded.starts, "lengths": found.encoded.lengths}
        make_folder(cache)
        save_tensors(
            index, {**places, "labels": found.labels}, {"classes": json.dumps(found.classes)}
        )
    with open_tensors(index) as kept:
        names = (path.name,) * len(kept["labels"])
        encoded = Encoded(path.parent, names, kept["starts"], kept["lengths"])
        return Listing(encoded, kept["labels"], tuple(json.loads(kept.metadata["classes"])))


def _index(path: Path, show: bool) -> Listing:
    tars = tar_members(path)
    if not tars or not all(tar.name.endswith(".tar") for tar in tars):
        raise FileError(f"{path}: is no tar of one tar for each class; use the official one")
    members: list[Member] = []
    counts: list[int] = []
    with bar(f"indexing {path.name}", len(tars), show=show) as step:
        for tar in tars:
            inner = tar_members(path, tar)
            members += inner
            counts.append(len(inner))
            step(tar.name)
    labels = torch.arange(len(tars)).repeat_interleave(torch.tensor(counts))
    classes = tuple(tar.name.removesuffix(".tar") for tar in tars)
    return Listing(tar_slices(path, members), labels, classes)


def _require(folder: Path, name: str, other: str) -> Path:
    if not (folder / name).is_file():
        raise FileError(f"{folder / name}: no such file, {other}; put the official files there")
    return folder / name
