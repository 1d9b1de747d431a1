"""The configuration of a result: the fine-tune's, with the new base's positions and windows.

A file that is already equivalent is not modified. Otherwise these keys are copied from the new
base's file, so that a file in an older format keeps its format.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from symport.errors import FileError
from symport.huggingface._compatibility import NATURAL, known
from symport.huggingface._models import Family, read_config
from symport.io import write_text

FILE = "config.json"


def write_config(folder: Path, family: Family, new_base: Path) -> None:
    """Change the configuration of a result from the fine-tune's to that of the result.

    Args:
        folder: The result, with the fine-tune's `config.json`; without one nothing is done.
        family: The architecture of the result.
        new_base: Folder of the new base.

    Raises:
        FileError: A configuration cannot be read, or cannot express that of the result.

    Example:
        >>> from symport.huggingface import find_family, find_folders
        >>> family = find_family(find_folders(str(gpt2), str(gpt2), str(gpt2)))
        >>> write_config(folder, family, gpt2)  # no config.json there, so nothing is done
    """
    path = folder / FILE
    if not path.is_file():
        return
    wanted = known(family.config)
    if not _odd(wanted, known(read_config(folder))):
        return
    content = _with_natural(_read(path), _read(new_base / FILE))
    write_text(path, _json(content))
    found = read_config(folder)
    for key in _odd(wanted, known(found)):  # by another name, or not there
        _set(content, found, key, wanted[key])
    write_text(path, _json(content))
    if odd := _odd(wanted, known(read_config(folder))):
        raise FileError(f"{path}: cannot be changed so that {odd[0]} is {wanted[odd[0]]!r}")


def _set(content: dict[str, Any], config: Any, key: str, value: Any) -> None:
    """Set a key, named as by `known`, under the name that its class writes."""
    *parts, name = key.split(".")
    for part in parts:
        content, config = content.setdefault(part, {}), getattr(config, part)
    content.pop(name, None)
    content[config.attribute_map.get(name, name)] = value


def _odd(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [key for key in wanted if wanted[key] != found.get(key)]


def _with_natural(content: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of one file, but those on positions, windows and eps of another."""
    kept = {key: value for key, value in content.items() if not NATURAL.search(key)}
    kept |= {key: value for key, value in new.items() if NATURAL.search(key)}
    for key in kept.keys() & new.keys():
        ours, theirs = kept[key], new[key]
        if isinstance(ours, dict) and isinstance(theirs, dict) and not NATURAL.search(key):
            parts = (cast("dict[str, Any]", side) for side in (ours, theirs))
            kept[key] = _with_natural(*parts)
    return kept


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
