"""The report of a port as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from symport.port._settings import PortSettings
from symport.report import NOTHING, Section, outcome_sections, write_report
from symport.selection import Outcome, header


def write_page(
    path: Path, settings: PortSettings, verdict: Sequence[str], outcome: Outcome | None
) -> None:
    """Write report.html.

    Raises:
        FileError: It cannot be written.
        SettingsError: matplotlib or jinja2 is not installed.
    """
    sections: list[Section] = []
    if outcome is not None:
        names = header(is_own_loss=settings.loss is not None)
        sections += outcome_sections(outcome, names, settings.seed)
    rows = [(key, _shown(value)) for key, value in settings.model_dump(mode="json").items()]
    sections.append(Section("Settings", header=("setting", "value"), rows=rows, words=(1,)))
    write_report(path, f"{settings.tuned} on {settings.new_base}", " ".join(verdict), sections)


def _shown(value: Any) -> str:
    """A setting as YAML has it, with a dash for what is empty."""
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value))) or NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    return NOTHING if value is None else str(value)
