"""Read examples from JSON lines and from folders of images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from symport.errors import DataError, FileError, SettingsError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


@dataclass(frozen=True)
class Line:
    """One object of a JSON-lines file.

    Attributes:
        where: File and line number, for messages.
        values: Its keys and values.
    """

    where: str
    values: Mapping[str, Any]


def read_lines(path: str | Path) -> list[Line]:
    """The objects of a JSON-lines file; empty lines are passed over.

    Raises:
        FileError: The file cannot be read.
        DataError: A line is no JSON object, or there is none at all.
    """
    path = Path(path)
    try:
        # Not `splitlines`: a text may hold U+2028 and its like as they are.
        texts = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read ({error})") from error
    lines = [
        Line(f"{path}, line {number}", _object(text, f"{path}, line {number}"))
        for number, text in enumerate(texts, 1)
        if text.strip()
    ]
    if not lines:
        raise DataError(f"{path}: there are no examples; each line is to be a JSON object")
    return lines


def text_of(line: Line) -> str:
    """The text of an example.

    Raises:
        DataError: There is none, or it is empty.
    """
    text = line.values.get("text")
    if not isinstance(text, str) or not text:
        raise DataError(f"{line.where}: 'text' is {text!r}, expected a text that is not empty")
    return text


def class_of(name: object, classes: Mapping[str, int], where: str) -> int:
    """The number of a class, given by its name or number.

    Args:
        name: What the example says.
        classes: Numbers by name.
        where: For the message.

    Raises:
        DataError: The fine-tune has no such class.

    Example:
        >>> class_of("dog", {"cat": 0, "dog": 1}, "line 3")
        1
    """
    if isinstance(name, str) and name in classes:
        return classes[name]
    number = int(name) if isinstance(name, str) and name.isdecimal() else name
    if isinstance(number, int) and not isinstance(number, bool) and number in classes.values():
        return number
    raise DataError(
        f"{where}: the label {name!r} is none of the fine-tune's classes: {', '.join(classes)}"
    )


def read_images(folder: str | Path) -> list[tuple[Path, str]]:
    """The images of a folder that has a folder for each class, with the class's name.

    Raises:
        FileError: It is no folder.
        DataError: It has no folders with images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; give one that has a folder for each class")
    found = [
        (path, kind.name)
        for kind in sorted(folder.iterdir())
        if kind.is_dir()
        for path in sorted(kind.iterdir())
        if path.suffix.lower() in IMAGES
    ]
    if not found:
        raise DataError(f"{folder}: has no folders with images ({' '.join(IMAGES)}) in them")
    return found


@dataclass(frozen=True)
class Picturing:
    """How an image becomes a tensor.

    Attributes:
        size: Height and width in pixels.
        mean: Of each channel, subtracted.
        std: Of each channel, divided by.
    """

    size: tuple[int, int]
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)


def load_images(paths: Sequence[Path], how: Picturing) -> Tensor:
    """Images scaled to one size, shape `(n, channels, height, width)`, float32.

    Raises:
        SettingsError: pillow is not installed.
        FileError: A file is no image.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise SettingsError("images need pillow: pip install pillow") from error
    import numpy as np

    mode = {1: "L", 3: "RGB"}[len(how.mean)]
    pixels: list[Tensor] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                scaled = image.convert(mode).resize(
                    (how.size[1], how.size[0]), Image.Resampling.BILINEAR
                )
        except OSError as error:
            raise FileError(f"{path}: cannot be read as an image ({error})") from error
        array = np.asarray(scaled, dtype=np.float32).reshape(*how.size, len(how.mean))
        pixels.append(torch.from_numpy(array / 255).permute(2, 0, 1))
    mean, std = (torch.tensor(tuple(v)).view(-1, 1, 1) for v in (how.mean, how.std))
    return (torch.stack(pixels) - mean) / std


def _object(text: str, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f'{where}: expected an object such as {{"text": "…"}}')
    return cast("Mapping[str, Any]", found)
