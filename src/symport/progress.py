"""A progress bar with the time left, for work that takes more than a moment, and lines of text."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def bar(title: str, total: int, *, show: bool, done: int = 0) -> Generator[Callable[[str], None]]:
    """Show a bar while inside.

    Args:
        title: What is being done.
        total: Number of steps.
        show: Whether to show anything; it goes to standard error.
        done: Steps that are behind us already.

    Yields:
        A function to call after each step, with a short note on it.
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
            progress.live.transient = True  # the message of the error stands alone
            raise


def print_line(text: str, *, show: bool) -> None:
    """Print a line to standard error, if it is to be shown."""
    if show:
        print(text, file=sys.stderr, flush=True)
