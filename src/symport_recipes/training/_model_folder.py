"""Store a trained transformer as a model folder, with a record of all that determines it."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from symport.errors import FileError
from symport.io import write_text

NOTE = "trained.json"


def kept(folder: Path, recipe: Mapping[str, Any], make: Callable[[], Any]) -> Path:
    """A model folder, made by `make` unless one of this recipe is there.

    Args:
        folder: Where; what was made by another recipe is replaced.
        recipe: Everything that decides the result.
        make: Trains; what it returns has `save_pretrained`, one or several of them.

    Raises:
        FileError: There is a folder of that name that no recipe made.
    """
    text = json.dumps(recipe, sort_keys=True, default=asdict)
    note = folder / NOTE
    if note.exists() and note.read_text() == text:
        return folder
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    for place in (folder, unfinished):
        if place.exists() and not (place / NOTE).is_file():
            raise FileError(
                f"{place}: exists, and no recipe made it; move it away, or choose another --cache"
            )
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_text(unfinished / NOTE, text)
    for part in make():
        part.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return folder


def made_by(start: Path | int) -> Any:
    """The recipe of a folder that was kept, or a seed as it is."""
    return start if isinstance(start, int) else json.loads((start / NOTE).read_text())
