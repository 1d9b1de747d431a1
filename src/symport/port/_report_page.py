"""The report of a port, to read in a browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from symport.port._model_card import cells, header, rows_of
from symport.port._settings import PortSettings
from symport.report import NOTHING, Curve, Section, draw, png, write_report
from symport.selection import Outcome


def write_page(
    path: Path, settings: PortSettings, verdict: Sequence[str], outcome: Outcome | None
) -> None:
    """Write report.html.

    Raises:
        FileError: It cannot be written.
        SettingsError: matplotlib or jinja2 is not installed.
    """
    sections = [] if outcome is None else _sections(settings, outcome)
    rows = [(key, _shown(value)) for key, value in settings.model_dump(mode="json").items()]
    sections.append(Section("Settings", header=("setting", "value"), rows=rows, words=(1,)))
    write_report(path, f"{settings.tuned} on {settings.new_base}", " ".join(verdict), sections)


def _sections(settings: PortSettings, outcome: Outcome) -> list[Section]:
    text = (
        f"{outcome.working} examples matched, chose and trained; {len(outcome.tuned.losses)} were "
        f"held back and give these numbers. The method moved {outcome.moved:.0%} of the units. "
        "Intervals are 95% bootstrap intervals over examples."
    )
    names = header(settings)
    rows = [cells(row) for row in rows_of(outcome, settings.seed)]
    sections = [Section("Results", text, names, rows, words=(0, len(names) - 1))]
    panels = {
        "How far to go": (_along(outcome), "share of the displacement (%)"),
        "How long to train": (_trained(outcome), "steps of training"),
    }
    for title, (curves, xlabel) in panels.items():
        if curves:
            picture = draw({title: curves}, xlabel=xlabel, ylabel=f"cross-validated {names[1]}")
            sections.append(Section(title, picture=png(picture)))
    return sections


def _shown(value: Any) -> str:
    """A setting as YAML has it, but for what is empty."""
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[Any]", value))) or NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    return NOTHING if value is None else str(value)


def _along(outcome: Outcome) -> dict[str, Curve]:
    """The loss by how much of the displacement is taken."""
    curves: dict[str, Curve] = {}
    last = max((c.step for c in outcome.candidates), default=0)
    for kind in ("method", "identity"):
        own = [c for c in outcome.candidates if c.kind == kind and c.score is not None]
        points = sorted((100 * c.step / last * c.scale, -(c.score or 0.0)) for c in own)
        if points:
            curves[kind] = Curve(*map(list, zip(*points, strict=True)))
    return curves


def _trained(outcome: Outcome) -> dict[str, Curve]:
    """The loss by steps of training, at the learning rate that was chosen."""
    curves: dict[str, Curve] = {}
    for name, plan in outcome.plans.items():
        if plan.steps is not None:
            curve = plan.steps.curves[plan.steps.lr]
            curves[name] = Curve([float(mark) for mark in curve], list(curve.values()))
    return curves
