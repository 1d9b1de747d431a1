"""An experiment is settings with one method, `pair`; `run` does its pairs of seeds one by one.

Each pair goes to a file of its own, so that an interrupted run goes on where it was, and so that
pairs can be done on different machines and put together afterwards.
"""

import json
import os
import platform
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from symport.distributed import broadcast_flag, rank
from symport.errors import FileError
from symport.io import make_folder, write_text
from symport.model import LandscapePlane
from symport.progress import bar
from symport_recipes.setups import Bench

LIST = re.compile(r"\[[^][{}]*\]")  # without lists or records inside: it goes on one line
PACKAGES = ("symport", "torch", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one pair of seeds gave.

    Attributes:
        x: Where the curves were measured: steps, epochs, iterations or widths.
        curves: By name, as long as `x`.
        shares: Numbers in [0, 1], such as accuracies, by name.
        numbers: Others, by name.
        evaluations: Gradients computed, by method.
        seconds: Time by method; that of trained networks is what it was when they were trained.
        plane: Scores in the plane through three networks.
    """

    x: Sequence[float] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    evaluations: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    plane: LandscapePlane | None = None


@dataclass(frozen=True)
class Outcome:
    """What a file holds.

    Attributes:
        seed: Of the source.
        settings: Of the experiment.
        found: What came out.
        environment: Versions and machine.
    """

    seed: int
    settings: Mapping[str, Any]
    found: Found
    environment: Mapping[str, str]


class Experiment(ABC):
    """Settings of which a pair of seeds makes numbers."""

    @abstractmethod
    def pair(self, seed: int, bench: Bench) -> Found:
        """Do it for one pair of seeds."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """All settings as what JSON can hold."""


def run(
    experiment: Experiment,
    folder: Path,
    seeds: Iterable[int],
    bench: Bench,
    *,
    progress: bool = True,
) -> list[Outcome]:
    """Do the pairs that are missing in a folder, `seed-0.json` and so on.

    Joined processes (`symport.distributed`) work on one pair together; the first of them writes.

    Returns:
        The outcome of each seed, in order.

    Raises:
        FileError: The folder cannot be written, or holds a file of another form or of other
            settings.
    """
    seeds = list(seeds)
    make_folder(folder)
    outcomes: list[Outcome] = []
    with bar(folder.parent.name, len(seeds), show=progress and rank() == 0) as advance:
        for seed in seeds:
            path = folder / f"seed-{seed}.json"
            if not broadcast_flag(path.exists()):
                begun = time.perf_counter()
                found = experiment.pair(seed, bench)
                seconds = time.perf_counter() - begun
                outcome = Outcome(seed, experiment.summary(), found, _environment(bench, seconds))
                if rank() == 0:
                    write_outcome(path, outcome)
                broadcast_flag(True)  # the others wait until it is written
            outcomes.append(_of_these_settings(path, experiment))
            advance("")
    return outcomes


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write one file; raises FileError if it cannot be written."""
    text = json.dumps(_rounded(asdict(outcome)), indent=1, ensure_ascii=False)
    write_text(path, LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n")


def read_outcome(path: Path) -> Outcome:
    """Read one file that `run` wrote; raises FileError if it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.pop("found")
        plane = found.pop("plane", None)
        shape = None if plane is None else LandscapePlane(**plane)
        return Outcome(found=Found(**found, plane=shape), **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(f"{path}: not the outcome of an experiment ({error!r})") from error


def read_outcomes(folder: Path) -> list[Outcome]:
    """All pairs of a folder, by seed."""
    return sorted((read_outcome(path) for path in folder.glob("seed-*.json")), key=lambda o: o.seed)


def _of_these_settings(path: Path, experiment: Experiment) -> Outcome:
    outcome = read_outcome(path)
    if outcome.settings != json.loads(json.dumps(_rounded(experiment.summary()))):
        raise FileError(
            f"{path}: was made with other settings; move it away, or choose another folder"
        )
    return outcome


def _environment(bench: Bench, seconds: float) -> dict[str, str]:
    return {
        **{name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": bench.device,
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        "seconds": f"{seconds:.1f}",
    }


def _rounded(value: Any) -> Any:
    """Six digits are more than any number here means, and keep the files readable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(name): _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
