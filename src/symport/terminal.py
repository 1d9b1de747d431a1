"""What command lines share: text that is printed as it is, and errors that become one line."""

from collections.abc import Callable

from rich.console import Console

from symport.errors import SymportError


def console(*, stderr: bool = False) -> Console:
    """A console that prints paths and names as they are: no markup, emoji, or breaks of its own."""
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True, stderr=stderr)


def run_app(app: Callable[[], object]) -> None:
    """Run a command line; an error raised on purpose becomes one line and exit code 1.

    Raises:
        SystemExit: With 1 after a `SymportError`.
    """
    try:
        app()
    except SymportError as error:
        console(stderr=True).print(f"error: {' '.join(str(error).split())}", style="red")
        raise SystemExit(1) from None
