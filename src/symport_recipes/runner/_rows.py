"""Experiments whose records are rows of a JSON file, each known by its case."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from symport.errors import FileError
from symport.io import make_folder, write_text
from symport_recipes.runner._experiment import Experiment

Record = TypeVar("Record")


class RowExperiment(Experiment[tuple[Any, ...], Record]):
    """An experiment whose records, dataclasses of plain values, are rows of a JSON file.

    Attributes:
        file: Its name.
        kind: The class of the records.
        key: The fields by which a record is known; a case holds their values.
    """

    file: ClassVar[str]
    kind: ClassVar[type[Any]]
    key: ClassVar[tuple[str, ...]]

    def path(self, folder: Path, case: tuple[Any, ...]) -> Path:  # noqa: ARG002
        """The file that has the row of a case."""
        return folder / self.file

    def case_of(self, record: Record) -> tuple[Any, ...]:
        """Which case a record is of."""
        return tuple(getattr(record, name) for name in self.key)

    def content(self, records: Sequence[Record]) -> Any:
        """What the file holds: the rows as a list."""
        return [asdict(cast("Any", record)) for record in records]

    def rows(self, content: Any) -> list[Mapping[str, Any]]:
        """The rows of what a file holds."""
        return list(content)

    def read(self, folder: Path, case: tuple[Any, ...]) -> Record | None:
        """The row of a case."""
        found = self.records(self.path(folder, case))
        return next((record for record in found if self.case_of(record) == case), None)

    def keep(self, folder: Path, case: tuple[Any, ...], record: Record) -> None:
        """Add a row, in place of an earlier one of its case."""
        path = self.path(folder, case)
        others = [known for known in self.records(path) if self.case_of(known) != case]
        make_folder(path.parent)
        write_text(path, json.dumps(self.content([*others, record]), indent=1) + "\n")

    def records(self, path: Path) -> list[Record]:
        """All records of a file; none if there is no file.

        Raises:
            FileError: It is not a file of these records.
        """
        if not path.exists():
            return []
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return [self.kind(**row) for row in self.rows(content)]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FileError(
                f"{path}: not the records of an experiment ({error!r}); move it away"
            ) from error
