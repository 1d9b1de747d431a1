"""Read MATLAB's files, in which Stanford and ImageNet keep their labels."""

import io
from pathlib import Path
from typing import Any

from symport.errors import FileError


def read_column(content: bytes, path: Path, variable: str, field: str = "") -> list[Any]:
    """Read one field of an array of structs, or a cell array.

    Args:
        content: Of a file of version 5, as official ones are; nothing in it is run.
        path: Where it came from, for messages.
        variable: Name of the array.
        field: Of each struct; empty for a cell array.

    Returns:
        A string or number for each entry.

    Raises:
        FileError: It is damaged, or has no such variable or field.
    """
    from scipy.io import loadmat

    try:
        array = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=[variable])[variable]
        column = array[field] if field else array
        return [entry.item() if hasattr(entry, "item") else entry for entry in column.reshape(-1)]
    except Exception as error:  # a damaged file can raise nearly anything
        what = f"{variable}.{field}" if field else variable
        raise FileError(
            f"{path}: {what!r} cannot be read from it as a MATLAB file "
            f"({type(error).__name__}: {error}); use the official file"
        ) from error
