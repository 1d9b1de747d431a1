"""The report of a port, to read in a browser."""

from collections.abc import Sequence
from pathlib import Path

from symport.port.card import cells, rows_of
from symport.port.compete import Outcome
from symport.port.settings import PortSettings, show_settings
from symport.report import Curve, Section, draw, png, write_report


def write_page(
    path: Path, settings: PortSettings, verdict: Sequence[str], outcome: Outcome | None
) -> None:
    """Write report.html.

    Raises:
        FileError: It cannot be written.
        SettingsError: matplotlib or jinja2 is not installed.
    """
    sections = [] if outcome is None else _sections(settings, outcome)
    lines = [(line,) for line in show_settings(settings).splitlines()]
    sections.append(Section("Settings", header=("as YAML",), rows=lines))
    write_report(path, f"{settings.tuned} on {settings.new_base}", " ".join(verdict), sections)


def _sections(settings: PortSettings, outcome: Outcome) -> list[Section]:
    text = (
        f"{outcome.working} examples matched, chose and trained; {len(outcome.tuned.losses)} were "
        f"held back and give these numbers. The old base's loss there is "
        f"{outcome.old_base.loss:.4f}, its fine-tune's {outcome.tuned.loss:.4f}. The method moved "
        f"{outcome.moved:.0%} of the units. Intervals are 95% bootstrap intervals over examples."
    )
    header = ("", "loss", "accuracy", "share of lift", "how")
    rows = [cells(row) for row in rows_of(outcome, settings.seed)]
    sections = [Section("Results", text, header, rows)]
    if panels := {**_along(outcome), **_trained(outcome)}:
        for title, curves in panels.items():
            xlabel = "steps of training" if title in _trained(outcome) else "length"
            picture = draw({title: curves}, xlabel=xlabel, ylabel="cross-validated loss")
            sections.append(Section(title, picture=png(picture)))
    return sections


def _along(outcome: Outcome) -> dict[str, dict[str, Curve]]:
    """The loss by how much of the displacement is taken."""
    curves: dict[str, Curve] = {}
    last = max((c.step for c in outcome.candidates), default=0)
    for kind in ("method", "identity"):
        own = [c for c in outcome.candidates if c.kind == kind and c.score is not None]
        points = sorted((c.step / last * c.length, -(c.score or 0.0)) for c in own)
        if points:
            curves[kind] = Curve(*map(list, zip(*points, strict=True)))
    return {"How far to go": curves} if curves else {}


def _trained(outcome: Outcome) -> dict[str, dict[str, Curve]]:
    """The loss by steps of training, at the learning rate that was chosen."""
    curves: dict[str, Curve] = {}
    for name, plan in outcome.plans.items():
        if plan.steps is not None:
            curve = plan.steps.curves[plan.steps.lr]
            curves[name] = Curve([float(mark) for mark in curve], list(curve.values()))
    return {"How long to train": curves} if curves else {}
