"""Every error symport raises on purpose, in one tree under `SymportError`.

Each message says what is wrong, where (tensor, axis, sizes or file), what was expected and,
where there is one, the next step.
"""

from reprlib import Repr


class SymportError(Exception):
    """The base class: `except symport.errors.SymportError` catches all errors raised on purpose."""


class SpecError(SymportError, ValueError):
    """A pattern or permutation is malformed, or does not fit the tensors it is used on."""


class DiscoveryError(SymportError):
    """The symmetry of a model could not be found or proven."""


class ParamsError(SymportError, ValueError):
    """Two sets of tensors differ in names, shapes or dtypes, or hold NaN or infinity."""


class TrajectoryError(SymportError, ValueError):
    """A trajectory is empty, too short, or its steps do not belong together."""


class DataError(SymportError, ValueError):
    """A data set is empty, of the wrong shape, or has labels out of range."""


class FileError(SymportError, OSError):
    """A file cannot be read, is not what it should be, or cannot be written."""


class SettingsError(SymportError, ValueError):
    """An option is out of its range or contradicts another."""


def brief(error: BaseException, most: int = 200) -> str:
    """The type and the message of an error from another library, on one line.

    Args:
        error: Any exception.
        most: Characters of its message that are kept.

    Example:
        >>> brief(KeyError("layers"))
        "KeyError: 'layers'"
    """
    text = " ".join(str(error).split()).encode(errors="backslashreplace").decode()
    cut = text[:most] + "…" * (len(text) > most)
    return f"{type(error).__name__}: {cut}" if cut else type(error).__name__


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if the message is empty.

    Example:
        >>> first_line(ValueError("shapes differ" + chr(10) + "see above")), first_line(KeyError())
        ('shapes differ', 'KeyError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def short_repr(value: object) -> str:
    """The repr of a value from a file, abbreviated for a message if it is long or deeply nested.

    Example:
        >>> short_repr([[[[1]]], "a" * 300])[:30]
        "[[[[...]]], 'aaaaaaaaaaaaaaaaa"
    """
    short = Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, 80, 80, 80
    return short.repr(value).encode(errors="backslashreplace").decode()
