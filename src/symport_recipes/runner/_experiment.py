"""An experiment is measured case by case; `run` measures missing cases and stores each record.

A record is written to a file at once, so that an interrupted run can continue.
"""

import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import torch

from symport.distributed import broadcast_flag, rank
from symport.io import make_folder
from symport.progress import bar
from symport_recipes.setups import Bench

Case = TypeVar("Case")
Record = TypeVar("Record")


class Experiment(ABC, Generic[Case, Record]):
    """Settings, what is measured with them, and how the records are kept.

    Attributes:
        seeds: How many of them `run` takes unless another number is given.
        workers: Processes of one thread that measure cases at the same time; None to measure in
            this process, with its threads.
    """

    seeds: ClassVar[int] = 3
    workers: ClassVar[int | None] = None

    @abstractmethod
    def cases(self, seeds: Sequence[int]) -> Sequence[Case]:
        """What is to be measured for these seeds, in order."""

    @abstractmethod
    def measure(self, case: Case, bench: Bench) -> Record:
        """Measure one case."""

    @abstractmethod
    def read(self, folder: Path, case: Case) -> Record | None:
        """The record that a folder holds of a case; None if it holds none.

        Raises:
            FileError: The file is damaged, or was made with other settings.
        """

    @abstractmethod
    def keep(self, folder: Path, case: Case, record: Record) -> None:
        """Write a record to a folder, in place of an earlier one of its case.

        Raises:
            FileError: It cannot be written.
        """

    def publish(self, folder: Path) -> Sequence[Path]:  # noqa: ARG002
        """Write the pages that show the records of a folder; return their paths.

        An experiment without a page of its own writes none: `write_page` shows it.
        """
        return ()

    def folder_in(self, out: Path, name: str, scale: str) -> Path:  # noqa: ARG002
        """Where its records go, in the folder of all results; `out` itself by default."""
        return out


def run(
    experiment: Experiment[Case, Record],
    folder: Path,
    seeds: Iterable[int],
    bench: Bench,
    *,
    anew: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Measure the cases that a folder does not hold.

    Joined processes (`symport.distributed`) work on one case together; the first of them writes.

    Args:
        experiment: What is measured.
        folder: Where its records are kept.
        seeds: Of the cases.
        bench: Cache and device.
        anew: Measure again what the folder holds.
        progress: Show a progress bar.

    Returns:
        The record of each case, in order.

    Raises:
        FileError: The folder cannot be written, or holds a file of another form or of other
            settings.
    """
    cases = experiment.cases(list(seeds))
    make_folder(folder)

    def is_missing(case: Case) -> bool:
        return not broadcast_flag(not anew and experiment.read(folder, case) is not None)

    title = type(experiment).__name__
    with bar(title, len(cases), show=progress and rank() == 0) as advance:
        for case, record in _measured(experiment, cases, is_missing, bench):
            if record is not None:
                if rank() == 0:
                    experiment.keep(folder, case, record)
                broadcast_flag(True)  # the others wait until it is written
            advance("")
    found = [experiment.read(folder, case) for case in cases]
    return [record for record in found if record is not None]


def _measured(
    experiment: Experiment[Case, Record],
    cases: Sequence[Case],
    is_missing: Callable[[Case], bool],
    bench: Bench,
) -> Iterator[tuple[Case, Record | None]]:
    """Each case with its record; None if it is not missing."""
    if experiment.workers is None:
        for case in cases:
            yield case, experiment.measure(case, bench) if is_missing(case) else None
        return
    missing = [case for case in cases if is_missing(case)]
    yield from ((case, None) for case in cases if case not in missing)
    workers = max(1, min(experiment.workers, len(missing)))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        measure = partial(experiment.measure, bench=bench)
        yield from zip(missing, pool.map(measure, missing), strict=True)
