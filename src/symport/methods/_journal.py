"""The folder of a run: what has been done, so that it can go on after any interruption.

Each step writes its permutation, then one line of `history.jsonl`. The line makes the step count:
whatever lies there without its line is written again. Nothing larger is kept: gradients and
similarities follow from the permutations, and are computed again where they are needed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from symport.errors import FileError
from symport.io import append_line, load_tensors, make_folder, save_tensors, write_text
from symport.spec import Permutation

# What a run writes into its folder, beside run.json, which says that it is one.
WRITTEN = ("steps", "history.jsonl", "permutation.safetensors", "params.safetensors", "result.json",
           "report.html")  # fmt: skip
FORMAT = 2  # of run.json and history.jsonl; 1, which scored the identity too, said nothing of it


@dataclass(frozen=True)
class StepRecord:
    """One step of a transfer.

    Attributes:
        step: From 1 to T.
        objective: What the matching reached, or None if the method does not match.
        moved: Share of units that do not stay in place, in [0, 1].
        score: Score of the transferred parameters after this step, None without a score.
        evaluations: Gradients that this step computed.
        gradient_seconds: The time they took.
        elapsed_seconds: The time of the whole step, scoring included.
    """

    step: int
    objective: float | None
    moved: float
    score: float | None
    evaluations: int
    gradient_seconds: float
    elapsed_seconds: float


class Journal:
    """Reads and writes the folder of one run.

    Args:
        folder: Made if it does not exist.
        run: What identifies the run; a folder with another run in it is refused.

    Attributes:
        records: The finished steps.

    Raises:
        FileError: The folder cannot be written, holds another run, or files that are no run's.
    """

    def __init__(self, folder: str | Path, run: dict[str, Any]) -> None:
        self.folder = Path(folder)
        refuse_foreign(self.folder)
        make_folder(self.folder / "steps")
        claim_folder(self.folder, run)
        self.records = self._read_history()

    def permutation(self, step: int) -> Permutation:
        """The permutation of a finished step."""
        return Permutation(load_tensors(self._permutation_file(step)))

    def save_permutation(self, step: int, permutation: Permutation) -> None:
        """Write the permutation of a step that is about to be committed."""
        save_tensors(self._permutation_file(step), permutation.indices)

    def commit(self, record: StepRecord) -> None:
        """Make a step count as done."""
        append_line(self.folder / "history.jsonl", json.dumps(asdict(record)))

    def tidy(self) -> None:
        """Remove what only going on would need; raises FileError if that cannot be done."""
        try:
            for path in (self.folder / "steps").iterdir():
                if not path.name.startswith("permutation-"):
                    path.unlink()
        except OSError as error:
            raise FileError(f"{self.folder}: cannot be tidied ({error.strerror})") from error

    def _permutation_file(self, step: int) -> Path:
        return self.folder / "steps" / f"permutation-{step:05d}.safetensors"

    def _read_history(self) -> list[StepRecord]:
        path = self.folder / "history.jsonl"
        if not path.exists():
            return []
        text = _read(path)
        whole = text[: text.rfind("\n") + 1]  # a line without its end was cut off
        if whole != text:
            write_text(path, whole)
        try:
            records = [StepRecord(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise FileError(f"{path}: holds a line that is no step; remove the folder") from error
        if [record.step for record in records] != list(range(1, len(records) + 1)):
            raise FileError(f"{path}: the steps are not 1, 2, 3 …; remove the folder")
        return records


def claim_folder(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Note in a folder which run it holds; the same run may go on there.

    Args:
        folder: Made if it does not exist.
        run: What identifies the run, as JSON holds it.

    Raises:
        FileError: The folder cannot be written, or holds another run; the message names what
            differs.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     claim_folder(folder, {"method": "fgmt"})
        ...     claim_folder(folder, {"method": "fgmt"})
    """
    make_folder(Path(folder))
    path = Path(folder) / "run.json"
    if not path.exists():
        write_text(path, json.dumps({"format": FORMAT, **run}, indent=1) + "\n")
        return
    try:
        found = dict(json.loads(_read(path)))
    except (ValueError, TypeError) as error:
        raise FileError(
            f"{path}: does not describe a run of symport; choose another folder"
        ) from error
    if (version := found.pop("format", 1)) != FORMAT:
        raise FileError(
            f"{folder} holds a run of another version of symport (format {version}, not "
            f"{FORMAT}); go on with that version, choose another folder, or remove this one"
        )
    odd = list(_differences(found, run))
    if odd:
        raise FileError(
            f"{folder} holds another run: it differs in {', '.join(odd)}; "
            "choose another folder, or remove this one"
        )


def refuse_foreign(folder: Path) -> None:
    """Raise FileError if the files of a run would replace others, which no run has written."""
    if (folder / "run.json").exists():
        return
    for name in WRITTEN:
        path = folder / name
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise FileError(
                f"{path}: exists, and would be replaced, but {folder} holds no run of symport; "
                "choose another folder"
            )


def _differences(found: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """The keys that differ, those of a mapping inside in parentheses."""
    for key in {**found, **run}:
        ours, theirs = run.get(key), found.get(key)
        if ours == theirs:
            continue
        inside = ""
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            inside = f" ({', '.join(_differences(theirs, ours))})"
        yield f"{key}{inside}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read ({error}); remove the folder") from error
