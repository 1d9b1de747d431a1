"""The image processor and the names of classes in a model's folder."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from symport.errors import SettingsError, short_repr
from symport.io import read_json
from symport.tasks._images import ImageScaling


def class_numbers(folder: Path, config: Any) -> Mapping[str, int]:
    """The classes of a configuration by their names, in the order of their numbers.

    Raises:
        SettingsError: They are not 0, 1, 2 …, or the model does not predict one of several classes.
    """
    kind = getattr(config, "problem_type", None)
    count = config.num_labels
    if kind in ("regression", "multi_label_classification") or count == 1:
        what = "several classes at once" if kind == "multi_label_classification" else "a number"
        raise SettingsError(
            f"{folder}: the fine-tune answers with {what}, not with one of several classes; give "
            "the examples as arrays and a loss: --set task=arrays --set loss=module:function"
        )
    try:
        found = {str(name): int(number) for name, number in config.label2id.items()}
        if sorted(found.values()) != list(range(count)):  # the other direction is kept apart
            found = {str(name): int(number) for number, name in config.id2label.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{folder}/config.json: label2id and id2label are to map names to numbers and back "
            f"({error})"
        ) from error
    if sorted(found.values()) != list(range(count)):
        raise SettingsError(
            f"{folder}/config.json: label2id numbers its classes {sorted(found.values())[:10]}, "
            f"expected 0 to {count - 1}, each under a name of its own"
        )
    return {name: found[name] for name in sorted(found, key=found.__getitem__)}


def image_scaling(folder: Path, config: Any) -> ImageScaling:
    """The normalisation of the folder's image processor, at the model's size.

    Raises:
        FileError: The processor's file cannot be read.
        SettingsError: A value in it is invalid; the message names the key.
    """
    path = folder / "preprocessor_config.json"
    known: Any = read_json(path) if path.is_file() else {}
    if not isinstance(known, dict):
        raise SettingsError(f"{path}: expected an object with keys, not {short_repr(known)}")
    processor = cast("dict[str, Any]", known)
    channels = _whole(getattr(config, "num_channels", 3))
    if channels not in (1, 3):
        raise SettingsError(f"{folder}/config.json: num_channels is {channels}, expected 1 or 3")
    size = _size(folder, config, processor)
    if processor.get("do_normalize", True) is False:
        return ImageScaling(size, (0.0,) * channels, (1.0,) * channels)
    mean, std = (_numbers(path, processor, key, channels) for key in ("image_mean", "image_std"))
    if min(std) <= 0:
        raise SettingsError(f"{path}: image_std is {list(std)}, expected numbers above 0")
    return ImageScaling(size, mean, std)


def _size(folder: Path, config: Any, processor: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width: those of the model or, if it accepts any, of its processor."""
    for given in (getattr(config, "image_size", None), *map(processor.get, ("crop_size", "size"))):
        if given is None:
            continue
        sides: Any = given
        if isinstance(given, Mapping):
            named = cast("Mapping[str, Any]", given)
            short = named.get("shortest_edge")
            sides = (named.get("height", short), named.get("width", short))
        if not isinstance(sides, list | tuple):
            sides = (sides, sides)
        both = [_whole(side) for side in cast("list[Any]", sides)]
        if len(both) != 2 or not all(0 < side <= 2**14 for side in both):
            raise SettingsError(
                f"{folder}: the size of images is {short_repr(given)}, expected pixels"
            )
        return both[0], both[1]
    raise SettingsError(
        f"{folder}: neither config.json (image_size) nor preprocessor_config.json (size) says how "
        'large images are to be; add "size": {"height": 224, "width": 224} to the latter'
    )


def _numbers(
    path: Path, processor: Mapping[str, Any], key: str, channels: int
) -> tuple[float, ...]:
    given = processor.get(key, [0.5] * channels)
    values: list[Any] = cast("list[Any]", given) if isinstance(given, list) else [given] * channels
    numbers = [float(v) if isinstance(v, int | float) else math.nan for v in values]
    if len(numbers) != channels or not all(map(math.isfinite, numbers)):
        raise SettingsError(f"{path}: {key} is {short_repr(given)}, expected {channels} numbers")
    return tuple(numbers)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
