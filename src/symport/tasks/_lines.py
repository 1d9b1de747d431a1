"""Read examples from JSON lines, or from one JSON array, and the names of their classes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from symport.errors import DataError, FileError, short_repr

# First bytes of other kinds of files, and the next step for each.
FOREIGN = {
    b"\x1f\x8b": "compressed; unpack it with gunzip",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"PAR1": "a Parquet file; write its rows as JSON lines",
    b"ARROW1": "an Arrow file; write its rows as JSON lines",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}


@dataclass(frozen=True)
class Line:
    """One object of a file of examples.

    Attributes:
        where: File and line number, or number in the array, for messages.
        values: Its keys and values.
    """

    where: str
    values: Mapping[str, Any]


def read_lines(path: str | Path) -> list[Line]:
    """The objects of a file: one per line, ignoring empty lines, or the elements of one array.

    Raises:
        FileError: The file cannot be read, or is not text.
        DataError: A line is not a JSON object, or there are no objects.
    """
    path = Path(path)
    text = _read(path)
    lines = _array(path, text) if text.lstrip().startswith("[") else None
    # Not `splitlines`: a text may contain U+2028 and similar characters.
    parts = enumerate(text.split("\n"), 1)
    if lines is None:
        named = [(f"{path}, line {number}", part) for number, part in parts if part.strip()]
        lines = [Line(where, _object(_parsed(part, where), where)) for where, part in named]
    if not lines:
        raise DataError(
            f"{path}: there are no examples; each line is to be a JSON object, or all of it a JSON "
            "array of objects"
        )
    return lines


def class_of(name: object, classes: Mapping[str, int], where: str) -> int:
    """The number of a class, given by its name or number.

    Args:
        name: The label of the example: a name, an integer in any form, or true or false.
        classes: Numbers by name.
        where: Location of the example, for the message.

    Raises:
        DataError: The fine-tune has no such class.

    Example:
        >>> class_of("dog", {"cat": 0, "dog": 1}, "line 3")
        1
        >>> class_of(1.0, {"cat": 0, "dog": 1}, "line 3"), class_of(True, {"no": 0, "yes": 1}, "")
        (1, 1)
    """
    spelled = (str(name), str(name).lower()) if isinstance(name, str | bool) else ()
    if known := [classes[text] for text in spelled if text in classes]:
        return known[0]
    is_number = isinstance(name, str) and name.isdecimal() and len(name) < 20
    number = int(name) if isinstance(name, str) and is_number else name
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, int) and number in classes.values():
        return int(number)
    generic = all(name == f"LABEL_{number}" for name, number in classes.items())
    advice = "; it has no names for them: --set labels=a,b,… gives them in order" if generic else ""
    raise DataError(
        f"{where}: the label {short_repr(name)} is none of the fine-tune's classes: "
        f"{', '.join(classes)}{advice}"
    )


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error})") from error
    for start, what in FOREIGN.items():
        if content.startswith(start):
            raise FileError(f"{path}: is {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(
            f"{path}: cannot be read: line {line} is not UTF-8 ({error.reason} at byte "
            f"{error.start}); save it as UTF-8"
        ) from error


def _array(path: Path, text: str) -> list[Line] | None:
    """The elements of one array that is the whole file; None if its first line alone is JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            json.loads(text.lstrip().split("\n", 1)[0])
        except (ValueError, RecursionError):
            raise DataError(f"{path}: not a JSON array of objects ({error})") from error
        return None
    return [
        Line(f"{path}, record {number}", _object(item, f"{path}, record {number}"))
        for number, item in enumerate(found, 1)
    ]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error


def _object(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise DataError(f'{where}: expected an object such as {{"text": "…"}}')
    return cast("Mapping[str, Any]", found)
