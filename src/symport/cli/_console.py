"""What command lines share: consoles that print text verbatim, and errors shown as one line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING

from symport.errors import SymportError, brief

if TYPE_CHECKING:
    from rich.console import Console

DEBUG = "--debug"
DEBUG_HELP = f"Errors are one line; {DEBUG}, anywhere among the arguments, shows the traceback."
LONGEST = 300  # characters shown of an error that is not ours; torch's C++ errors have thousands
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def console(*, stderr: bool = False) -> "Console":
    """A console that prints text verbatim: no markup, no emoji, no added line breaks.

    Args:
        stderr: Print to the standard error instead of the standard output.

    Example:
        >>> console().print("[bold] :smile:")
        [bold] :smile:
    """
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True, stderr=stderr)


stdout, stderr = console(), console(stderr=True)


def run_app(app: Callable[[], object]) -> None:
    """Run a command line on `sys.argv`; an exception becomes one line and an exit code.

    `--debug` among the arguments shows the traceback instead. A `~` at the beginning of a path is
    replaced by the home folder where the shell does not do so: in quotes, and in `--out=~/x`.

    Args:
        app: Reads `sys.argv`, from which `--debug` has been removed.

    Raises:
        SystemExit: With 1 after an error, with 130 after Ctrl-C, or as `app` raises it.

    Example:
        >>> from contextlib import redirect_stderr, suppress
        >>> from unittest.mock import patch
        >>> from symport.errors import SpecError
        >>> def app():
        ...     raise SpecError("fc1.weight has no pattern")
        >>> with patch("sys.argv", ["symport"]), redirect_stderr(sys.stdout), suppress(SystemExit):
        ...     run_app(app)
        error: fc1.weight has no pattern
    """
    given = sys.argv[1:]
    own = given[: given.index("--")] if "--" in given else given
    debug = DEBUG in own
    sys.argv[1:] = [_at_home(a) for a in own if a != DEBUG] + given[len(own) :]
    try:
        app()
    except (SystemExit, GeneratorExit):
        raise
    except KeyboardInterrupt:
        console(stderr=True).print("stopped")
        raise SystemExit(INTERRUPTED) from None
    except BaseException as error:  # a Rust library's panic is no Exception
        if debug:
            raise
        console(stderr=True).print(f"error: {one_line(error)}", style="red")
        raise SystemExit(1) from None


def one_line(error: BaseException) -> str:
    """What went wrong, on one line; an error outside of `symport.errors` with its type and file.

    Example:
        >>> one_line(KeyError("layers"))
        "KeyError: 'layers'; an unexpected error: --debug shows the traceback"
    """
    words = (
        word if len(word) < LONGEST else f"{word[:100]}…{word[-30:]}" for word in str(error).split()
    )
    text = " ".join(words).encode(errors="backslashreplace").decode()
    if isinstance(error, SymportError):
        return text
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"out of memory ({text[:LONGEST] or 'no memory left'}); {DEBUG} shows where"
    summary = brief(error, LONGEST)
    file = next(_files(error.__traceback__), None)
    place = "" if file is None or str(file) in summary else f" (while working on {file})"
    return f"{summary}{place}; an unexpected error: {DEBUG} shows the traceback"


def _files(trace: TracebackType | None) -> Iterator[Path]:
    """Files, then folders, among the local variables of a traceback, the innermost first."""
    frames = [frame for frame, _ in walk_tb(trace)][::-1]
    paths = [Path(v) for f in frames for v in f.f_locals.values() if _is_path(v)]
    yield from (path for path in paths if path.is_file())
    yield from (path for path in paths if path.is_dir() and path != Path())


def _is_path(value: object) -> bool:
    if isinstance(value, str):
        return "/" in value and "\n" not in value and "\0" not in value and len(value) < LONGEST
    return isinstance(value, Path)


def _at_home(argument: str) -> str:
    """An argument with its `~` replaced; `--out=~/x` too."""
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", "")
    path = value if equals else argument
    if path != "~" and not path.startswith("~/"):
        return argument
    return f"{flag}{equals}{Path(path).expanduser()}"
