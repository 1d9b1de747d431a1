import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from symport.errors import FileError
from symport_recipes.runner import RowExperiment, run
from symport_recipes.setups import Bench


@dataclass(frozen=True)
class Square:
    side: int
    area: int
    threads: int = 0


@dataclass(frozen=True)
class Squares(RowExperiment[Square]):
    """Squares the seeds."""

    file = "squares.json"
    kind = Square
    key = ("side",)

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[Any, ...]]:
        return [(seed,) for seed in seeds]

    def measure(self, case: tuple[Any, ...], bench: Bench) -> Square:
        return Square(case[0], case[0] ** 2, torch.get_num_threads())

    def publish(self, folder: Path) -> Sequence[Path]:
        return ()


@dataclass(frozen=True)
class Shared(Squares):
    workers = 2


def test_rows_that_are_there_are_kept_and_others_are_added(tmp_path):
    run(Squares(), tmp_path, [1, 2], Bench(), progress=False)
    path = tmp_path / "squares.json"
    path.write_text(json.dumps([{"side": 2, "area": 77}]))
    found = run(Squares(), tmp_path, [1, 2], Bench(), progress=False)
    assert [square.area for square in found] == [1, 77]
    again = run(Squares(), tmp_path, [2], Bench(), anew=True, progress=False)
    assert [square.area for square in again] == [4]
    assert sorted(row["area"] for row in json.loads(path.read_text())) == [1, 4]


def test_processes_share_the_cases_with_a_thread_each(tmp_path):
    found = run(Shared(), tmp_path, [3, 1, 2], Bench(), progress=False)
    assert [(square.area, square.threads) for square in found] == [(9, 1), (1, 1), (4, 1)]


@pytest.mark.parametrize("text", ["{", '[{"side": 1}]', "[1]"])
def test_a_file_of_other_rows_is_refused(text, tmp_path):
    (tmp_path / "squares.json").write_text(text)
    with pytest.raises(FileError, match=r"squares\.json: not the records of an experiment"):
        run(Squares(), tmp_path, [1], Bench(), progress=False)
