"""A progress bar with the remaining time, and lines of text, on standard error."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def bar(title: str, total: int, *, show: bool, done: int = 0) -> Generator[Callable[[str], None]]:
    """Show a progress bar on standard error while the body runs.

    Args:
        title: What is being done.
        total: Number of steps.
        show: Whether to show anything.
        done: Number of steps that were done before.

    Yields:
        A function to call after each step, with a short note to display.

    Example:
        >>> with bar("matching", total=2, show=False) as advance:
        ...     for step in range(2):
        ...         advance(f"step {step}")
    """
    if not show:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")
        try:
            yield lambda note: progress.update(task, advance=1, note=note)
        except Exception:
            progress.live.transient = True  # so that only the error message remains
            raise


def print_line(text: str, *, show: bool) -> None:
    """Print a line to standard error, if `show`.

    Example:
        >>> print_line("3 texts were cut", show=False)
    """
    if show:
        print(text, file=sys.stderr, flush=True)
