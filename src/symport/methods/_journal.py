"""The folder of a run: the steps done, so that a run can resume after any interruption.

Each step writes its permutation, then one line of `history.jsonl`. A step is done once its line is
written; a permutation without a line is written again. Nothing larger is kept: gradients and
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

# What a run writes into its folder besides run.json, which marks the folder as that of a run.
WRITTEN = ("steps", "history.jsonl", "permutation.safetensors", "params.safetensors", "result.json",
           "report.html")  # fmt: skip
FORMAT = 2  # of run.json and history.jsonl; folders of format 1 do not state it


@dataclass(frozen=True)
class StepRecord:
    """One step of a transfer.

    Attributes:
        step: From 1 to T.
        objective: The objective of the matching, or None if the method does not match.
        moved: Share of units that the permutation moves, in [0, 1].
        score: Score of the transferred parameters after this step; None if it was not scored.
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
        run: What identifies the run; a folder that holds another run is refused.

    Attributes:
        records: The finished steps.

    Raises:
        FileError: The folder cannot be written, or holds another run or files of something else.
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
        """Write the permutation of a step, before `commit`."""
        save_tensors(self._permutation_file(step), permutation.indices)

    def commit(self, record: StepRecord) -> None:
        """Note that a step is done."""
        append_line(self.folder / "history.jsonl", json.dumps(asdict(record)))

    def tidy(self) -> None:
        """Remove files that only an unfinished run needs.

        Raises:
            FileError: A file cannot be removed.
        """
        try:
            for path in (self.folder / "steps").iterdir():
                if not path.name.startswith("permutation-"):
                    path.unlink()
        except OSError as error:
            raise FileError(f"{self.folder}: files cannot be removed ({error.strerror})") from error

    def _permutation_file(self, step: int) -> Path:
        return self.folder / "steps" / f"permutation-{step:05d}.safetensors"

    def _read_history(self) -> list[StepRecord]:
        path = self.folder / "history.jsonl"
        if not path.exists():
            return []
        text = _read(path)
        whole = text[: text.rfind("\n") + 1]  # without a last line that was cut off
        if whole != text:
            write_text(path, whole)
        try:
            records = [StepRecord(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise FileError(
                f"{path}: a line is not the record of a step; remove the folder"
            ) from error
        if [record.step for record in records] != list(range(1, len(records) + 1)):
            raise FileError(f"{path}: the steps are not 1, 2, 3 …; remove the folder")
        return records


def claim_folder(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Note in a folder which run it holds; only the same run can resume there.

    Args:
        folder: Made if it does not exist.
        run: What identifies the run: values that JSON can hold.

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
            f"{FORMAT}); resume it with that version, choose another folder, or remove this one"
        )
    odd = list(_differences(found, run))
    if odd:
        raise FileError(
            f"{folder} holds another run: it differs in {', '.join(odd)}; "
            "choose another folder, or remove this one"
        )


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which a run would replace files that no run has written.

    Args:
        folder: Where a run is to be written; it need not exist.

    Raises:
        FileError: The folder holds such a file, and no run; the message names the file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "result.json").write_text("{}")
        ...     try:
        ...         refuse_foreign(Path(folder))
        ...     except FileError:
        ...         print("refused")
        refused
    """
    if (folder / "run.json").exists():
        return
    for name in WRITTEN:
        path = folder / name
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise FileError(
                f"{path}: would be replaced, but {folder} is not the folder of a symport run; "
                "choose another folder"
            )


def _differences(found: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """The keys that differ, with those of nested mappings in parentheses."""
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
