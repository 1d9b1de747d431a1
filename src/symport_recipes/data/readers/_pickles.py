"""Read the pickles of CIFAR without executing anything in them.

A pickle names the functions that build its objects. Here every name is replaced by a harmless
stand-in or refused: no function of numpy or Python is ever called with content of the file.
"""

import io
import math
import pickle
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from symport.errors import FileError
from symport_recipes.data.readers._raw import as_tensor

BYTES_TYPES = (b"u1", "u1")  # numpy's name for uint8, from Python 2 and 3


class _Blank:
    """An array or dtype under construction: records what the file gives, and does nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _StandIn:
    """Called in place of a function that the file names.

    It has a `__setstate__` that refuses, so that no file can change it for the next one.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        if self.name != "encode":
            return _Blank(arguments)
        text, encoding = arguments
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("_codecs.encode is allowed for latin1 only")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"{self.name} cannot be given a state")


ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # how Python 3 writes bytes for Python 2 to read
}


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return _StandIn(global_name)


def read_pickle(content: bytes, path: Path) -> dict[str, Any]:
    """Read a dictionary of lists, strings, numbers and uint8 arrays.

    Args:
        content: The pickle.
        path: Where it came from, for messages.

    Returns:
        The dictionary, its keys as `str`, its arrays as uint8 tensors, strings of Python 2 as
        `bytes`.

    Raises:
        FileError: It is damaged, asks for anything but a numpy array, or is not a dictionary.
    """
    try:
        found: Any = _Reader(io.BytesIO(content), encoding="bytes").load()
        return {_text(key): _value(value) for key, value in _pairs(found)}
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise FileError(
            f"{path}: refused as a pickle of arrays and lists ({error}); use the official file"
        ) from error


def _pairs(found: Any) -> list[tuple[Any, Any]]:
    if not isinstance(found, dict):
        raise pickle.UnpicklingError("it is not a dictionary")
    return list(cast("dict[Any, Any]", found).items())


def _text(key: Any) -> str:
    return key.decode("ascii") if isinstance(key, bytes) else str(key)


def _value(value: Any) -> Any:
    return _tensor(value) if isinstance(value, _Blank) else value


def _tensor(blank: _Blank) -> Tensor:
    """The array that numpy would have made of `(version, shape, dtype, column_major, bytes)`."""
    _, shape, dtype, column_major, content = blank.state
    if not isinstance(dtype, _Blank) or dtype.arguments[0] not in BYTES_TYPES:
        raise pickle.UnpicklingError("it holds an array that is not uint8")
    if column_major or not isinstance(content, bytes) or math.prod(shape) != len(content):
        raise pickle.UnpicklingError(f"its array does not hold {shape} bytes in row-major order")
    return as_tensor(content).reshape(shape)
