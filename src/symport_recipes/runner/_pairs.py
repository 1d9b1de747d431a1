"""Experiments of pairs of seeds: settings with one method, `pair`, that measures a pair.

Each pair has its own file, so that pairs can be run on different machines and combined
afterwards.
"""

import json
import os
import platform
import re
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from symport.errors import FileError
from symport.io import write_text
from symport.model import LandscapePlane
from symport_recipes.runner._experiment import Experiment
from symport_recipes.setups import Bench

LIST = re.compile(r"\[[^][{}]*\]")  # without lists or records inside: it goes on one line
PACKAGES = ("symport", "torch", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The results of one pair of seeds.

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


class PairExperiment(Experiment[int, Outcome]):
    """Settings with which a pair of seeds is measured; the case is the seed of the source."""

    @abstractmethod
    def pair(self, seed: int, bench: Bench) -> Found:
        """Measure one pair of seeds."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """All settings as what JSON can hold."""

    def cases(self, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds."""
        return seeds

    def measure(self, case: int, bench: Bench) -> Outcome:
        """Measure one pair, and note settings, versions and machine."""
        begun = time.perf_counter()
        found = self.pair(case, bench)
        seconds = time.perf_counter() - begun
        return Outcome(case, self.summary(), found, _environment(bench, seconds))

    def read(self, folder: Path, case: int) -> Outcome | None:
        """Read the file of a seed."""
        path = _path(folder, case)
        return _of_these_settings(path, self) if path.exists() else None

    def keep(self, folder: Path, case: int, record: Outcome) -> None:
        """Write the file of a seed."""
        write_outcome(_path(folder, case), record)

    def folder_in(self, out: Path, name: str, scale: str) -> Path:
        """A folder for each recipe, in it one for each scale."""
        return out / name / scale


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write one file; raises FileError if it cannot be written."""
    text = json.dumps(_rounded(asdict(outcome)), indent=1, ensure_ascii=False)
    write_text(path, LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n")


def read_outcome(path: Path) -> Outcome:
    """Read one file that was written so; raises FileError if it is none."""
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


def _path(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}.json"


def _of_these_settings(path: Path, experiment: PairExperiment) -> Outcome:
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
