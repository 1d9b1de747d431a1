"""Read images of any mode and depth, and normalise them like an image processor."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from symport.errors import DataError, FileError, SettingsError, brief

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
DEEP = ("I", "F")  # and I;16 in its variants: converting them to 8 bits would clip, not scale
BIT_16 = 65535.0


@dataclass(frozen=True)
class ImageScaling:
    """The size and normalisation of images.

    Attributes:
        size: Height and width in pixels.
        mean: Mean of each channel, which is subtracted.
        std: Standard deviation of each channel, by which it is divided.
    """

    size: tuple[int, int]
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Found:
    """The images of a folder.

    Attributes:
        images: Each with the name of its class.
        others: Other files in these folders, whose endings are not those of images.
    """

    images: list[tuple[Path, str]]
    others: list[Path]


def find_images(folder: str | Path) -> Found:
    """The images of a folder with one subfolder for each class; hidden files are ignored.

    Raises:
        FileError: It is not a folder, or cannot be read.
        DataError: It has no subfolders with images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; give one that has a folder for each class")
    try:
        kinds = [kind for kind in _shown(folder) if kind.is_dir()]
        paths = [(path, kind.name) for kind in kinds for path in _shown(kind)]
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({error})") from error
    images = [(path, kind) for path, kind in paths if path.suffix.lower() in IMAGES]
    if not images:
        raise DataError(f"{folder}: has no folders with images ({' '.join(IMAGES)}) in them")
    known = {path for path, _ in images}
    return Found(images, [path for path, _ in paths if path not in known])


def load_images(paths: Sequence[Path], how: ImageScaling) -> Tensor:
    """Images scaled to one size, shape `(n, channels, height, width)`, float32.

    Pixels of 8 bits in any mode are divided by 255, those of 16 bits by 65535. Floating-point
    pixels are divided by 255, unless all of them are from 0 to 1.

    Raises:
        SettingsError: pillow is not installed.
        FileError: A file is not an image, or the range of its pixels is unknown.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise SettingsError("images need pillow: pip install pillow") from error
    pixels: list[Tensor] = []
    for path in paths:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
                pixels.append(_scaled(image, how))
        except FileError as error:
            raise FileError(f"{path}: {error}") from error
        except Exception as error:  # a foreign file can fail anywhere inside the readers
            raise FileError(f"{path}: cannot be read as an image ({brief(error)})") from error
    mean, std = (torch.tensor(tuple(v)).view(-1, 1, 1) for v in (how.mean, how.std))
    return (torch.stack(pixels) - mean) / std


def _scaled(image: Any, how: ImageScaling) -> Tensor:
    """One image with values from 0 to 1, `(channels, height, width)`."""
    import numpy as np
    from PIL import Image

    channels, size = len(how.mean), (how.size[1], how.size[0])
    if image.mode in DEEP or image.mode.startswith("I;16"):
        shares = _shares(np.asarray(image, dtype=np.float32), image.mode)
        grey = Image.fromarray(shares).resize(size, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(grey)).expand(channels, *how.size).clone()
    mode = {1: "L", 3: "RGB"}[channels]
    plain = image.convert(mode).resize(size, Image.Resampling.BILINEAR)
    array = np.asarray(plain, dtype=np.float32).reshape(*how.size, channels)
    return torch.from_numpy(array / 255).permute(2, 0, 1)


def _shares(numbers: Any, mode: str) -> Any:
    """Pixels of more than 8 bits, divided by the largest value of their mode."""
    least, most = float(numbers.min()), float(numbers.max())
    if not (least >= 0 and most <= BIT_16):  # NaN too
        raise FileError(
            f"its pixels are from {least:g} to {most:g}, of unknown range; save it with 8 or 16 "
            "bits a channel"
        )
    if mode == "F" and most <= 255:
        return numbers / (1 if most <= 1 else 255)
    return numbers / BIT_16


def _shown(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
