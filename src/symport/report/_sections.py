"""What reports show of selections and of transfers. Nothing is computed here."""

from collections.abc import Sequence
from pathlib import Path

from symport.methods import StepRecord, TransferResult
from symport.report._html import NOTHING, Curve, Section, draw, png, write_report
from symport.selection import Outcome, rows_of


def outcome_sections(outcome: Outcome, names: Sequence[str], seed: int) -> list[Section]:
    """The candidates in a table, and the cross-validated losses as pictures.

    Args:
        outcome: What a selection found.
        names: Of the columns, as `header` has them.
        seed: Of the bootstrap.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    text = (
        f"{outcome.training_examples} examples matched, chose and trained; "
        f"{outcome.held_out_examples} were held out and give these numbers. The method moved "
        f"{outcome.units_moved:.0%} of the units. Intervals are 95% bootstrap intervals over "
        "examples."
    )
    rows = [row.cells for row in rows_of(outcome, seed)]
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


def _steps_section(history: Sequence[StepRecord]) -> Section:
    """The steps of a method in a table: objective, moved units, score and cost.

    Args:
        history: One record for each step.
    """
    header, rows = _filled(
        ("step", "objective", "units moved", "score", "gradients", "seconds"),
        [
            (
                str(r.step),
                _number(r.objective),
                f"{r.moved:.1%}",
                _number(r.score),
                str(r.evaluations),
                f"{r.elapsed_seconds:.2f}",
            )
            for r in history
        ],
    )
    evaluations = sum(record.evaluations for record in history)
    text = (
        f"{evaluations} gradients in total; units moved is the share of units that are not at "
        "their position in the source."
    )
    return Section("Steps", text, header, rows)


def write_outcome(
    path: str | Path,
    title: str,
    sentences: Sequence[str],
    outcome: Outcome,
    names: Sequence[str],
    seed: int,
) -> None:
    """Write the report of a selection, with the steps of its method.

    Args:
        path: The HTML file.
        title: Its heading.
        sentences: The verdict.
        outcome: What the selection found.
        names: Of the columns, as `header` has them.
        seed: Of the bootstrap.

    Raises:
        FileError: It cannot be written.
        SettingsError: matplotlib or jinja2 is not installed.
    """
    sections = outcome_sections(outcome, names, seed)
    if outcome.history:
        sections.append(_steps_section(outcome.history))
    write_report(path, title, "\n".join(sentences), sections)


def transfer_sections(result: TransferResult) -> list[Section]:
    """The sections on one transfer: a curve of its scores, and a table of its steps.

    Args:
        result: A transfer; without scores there is no curve.

    Raises:
        SettingsError: matplotlib is not installed.

    Example:
        >>> import torch
        >>> from symport.methods import Identity, transfer
        >>> from symport.spec import PermutationSpec
        >>> from symport.trajectory import Trajectory
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, steps=3)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> result = transfer(source, {"w": torch.zeros(2)}, spec, Identity())
        >>> [row[0] for row in transfer_sections(result)[0].rows]
        ['1', '2', '3']
    """
    steps = [float(record.step) for record in result.history]
    scores = [r.score for r in result.history if r.score is not None]
    sections = [_steps_section(result.history)]
    if len(scores) == len(steps):
        curves = {"selection set": {"method": Curve(steps, scores)}}
        picture = png(draw(curves, xlabel="step", ylabel="score"))
        sections.insert(0, Section("Score along the transfer", picture=picture))
    return sections


def _along(outcome: Outcome) -> dict[str, Curve]:
    """The loss by how much of the displacement is taken."""
    curves: dict[str, Curve] = {}
    last = max((c.step for c in outcome.scored), default=0)
    for kind in ("method", "identity"):
        own = [c for c in outcome.scored if c.kind == kind and c.score is not None]
        points = sorted((100 * c.step / last * c.scale, -(c.score or 0.0)) for c in own)
        if points:
            curves[kind] = Curve(*map(list, zip(*points, strict=True)))
    return curves


def _trained(outcome: Outcome) -> dict[str, Curve]:
    """The loss by steps of training, at the learning rate that was chosen."""
    curves: dict[str, Curve] = {}
    for name, plan in outcome.plans.items():
        if plan.training is not None:
            curve = plan.training.curves[plan.training.lr]
            curves[name] = Curve([float(step) for step in curve], list(curve.values()))
    return curves


def _filled(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The columns that are not empty."""
    kept = [k for k in range(len(header)) if any(row[k] != NOTHING for row in rows)]
    return [header[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"
