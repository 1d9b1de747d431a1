"""Download official data sets; the published md5 of each file is checked before use."""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from symport.errors import DataError, FileError, brief
from symport.io import make_folder
from symport_recipes.data._places import VARIABLE, cache_folder
from symport_recipes.data._registry import FOLDERS

TIMEOUT_SECONDS = 60  # without an answer


@dataclass(frozen=True)
class Download:
    """A file to download.

    Attributes:
        url: Where it is.
        md5: Published with it, in hexadecimal.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rpartition("/")[2]


def _idx(base: str, *sums: str) -> tuple[Download, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    pairs = zip(names, sums, strict=True)
    return tuple(Download(f"{base}/{name}-ubyte.gz", md5) for name, md5 in pairs)


DOWNLOADS = {
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist",  # the official address asks for a login
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "cifar10": (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
        ),
    ),
    "cifar100": (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    "cub": (
        Download(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "97eceeb196236b17998738112f37df78",
        ),
    ),
}
ARCHIVES = (".tar.gz", ".tgz")
BY_HAND = {
    "imagenet": "log in at image-net.org and put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar "
    "and ILSVRC2012_devkit_t12.tar.gz",
    "cars": "its official server is gone: put cars_train, cars_test, devkit and "
    "cars_test_annos_withlabels.mat from a copy",
}


def fetch(name: str, folder: Path | None = None, *, show: bool = False) -> Path:
    """Download a data set, unless it exists.

    Each file has a temporary name until its md5 is verified. Archives are then unpacked and
    deleted.

    Args:
        name: `mnist`, `fashion-mnist`, `cifar10`, `cifar100` or `cub`.
        folder: Parent of its folder, to be named in SYMPORT_DATA; by default the user's cache,
            where it is found without that.
        show: Show a progress bar.

    Returns:
        The folder of the data set, as `load` takes it.

    Raises:
        DataError: There is no data set of this name.
        FileError: The download fails, or a file is not the official one; or the data set requires a
            licence, and the message says which files to put where.
    """
    folder = folder or cache_folder("data")
    if name in BY_HAND:
        raise FileError(f"{name} cannot be fetched: {BY_HAND[name]} into {folder / FOLDERS[name]}")
    if name not in DOWNLOADS:
        raise DataError(f"{name!r} cannot be fetched; choose from {', '.join(DOWNLOADS)}")
    target = folder / FOLDERS[name]
    for download in DOWNLOADS[name]:
        archive = download.url.endswith(ARCHIVES)
        final = target if archive else target / download.name
        if not final.exists():
            _fetch_one(download, final, show)
    return target


def _fetch_one(download: Download, final: Path, show: bool) -> None:
    make_folder(final.parent)
    archive = download.url.endswith(ARCHIVES)
    try:
        with TemporaryDirectory(dir=final.parent, prefix=".fetching-") as temporary:
            unpacked = Path(temporary, "unpacked")
            file = _retrieved(download, Path(temporary), show)
            if archive:  # pooch's own unpacking is neither whole or nothing, nor filtered
                with tarfile.open(file, "r:gz") as tar:
                    tar.extractall(unpacked, filter="data")
            (unpacked / final.name if archive else file).rename(final)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise FileError(
            f"{download.url}: cannot be fetched ({brief(error)}); it takes a network and room in "
            f"{final.parent}. Or {_by_hand(download, final)}"
        ) from error


def _retrieved(download: Download, folder: Path, show: bool) -> Path:
    """The file in a folder; ValueError if its md5 is another."""
    try:
        import pooch
    except ImportError as error:
        raise DataError("data are fetched by pooch: pip install 'symport[recipes]'") from error
    pooch.get_logger().setLevel("WARNING")
    # Any, as pooch's protocol of downloaders names its arguments otherwise than its classes do.
    downloader: Any = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, progressbar=show)
    known = f"md5:{download.md5}"
    found = pooch.retrieve(
        download.url, known, fname=download.name, path=folder, downloader=downloader
    )
    return Path(found)


def _by_hand(download: Download, final: Path) -> str:
    unpacked = " and unpack it" if download.url.endswith(ARCHIVES) else ""
    return f"put {download.name} into {final.parent}{unpacked}, and set {VARIABLE}"
