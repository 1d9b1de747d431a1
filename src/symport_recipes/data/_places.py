"""Where data and trained networks are stored: a given folder, or the user's cache."""

import os
from pathlib import Path

from symport.errors import DataError, FileError

VARIABLE = "SYMPORT_DATA"


def cache_folder(kind: str) -> Path:
    """A folder in the user's cache of the operating system.

    Args:
        kind: `data` or `trained`.

    Raises:
        DataError: pooch is not installed.
    """
    try:
        import pooch
    except ImportError as error:
        raise DataError("data are fetched by pooch: pip install 'symport[recipes]'") from error
    return Path(pooch.os_cache("symport")) / kind


def data_folders() -> list[Path]:
    """Folders that may hold data sets: the one that SYMPORT_DATA names, then the user's cache.

    Raises:
        FileError: SYMPORT_DATA names no folder.
    """
    named = os.environ.get(VARIABLE)
    if named and not Path(named).is_dir():
        raise FileError(f"{VARIABLE} is {named!r}, which is not a folder; correct or unset it")
    return [*([Path(named)] if named else []), cache_folder("data")]
