"""Draw curves and write self-contained HTML reports. Nothing is computed here."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from symport.errors import SettingsError
from symport.io import write_bytes, write_text
from symport.methods import TransferResult
from symport.selection import Comparison, CrossValidation

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTHING = "–"
TEMPLATE = Path(__file__).parent / "templates" / "report.html"


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        x: Horizontal coordinates.
        y: Vertical coordinates, as many as `x`.
        spread: Standard deviation of each `y`; empty for none.
    """

    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading.
        text: A sentence or two.
        header: Names of the table's columns; empty for no table.
        rows: Cells of the table, row by row.
        picture: PNG bytes of a figure; empty for none.
        words: Indices of the columns that contain words, which are left-aligned and wrap.
    """

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: bytes = b""
    words: Sequence[int] = ()


def write_report(path: str | Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Write one self-contained HTML file.

    Raises:
        FileError: It cannot be written.
        SettingsError: jinja2 is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> table = Section("Results", header=("step", "loss"), rows=[("1", "0.5")])
        >>> with TemporaryDirectory() as folder:
        ...     page = Path(folder) / "page.html"
        ...     write_report(page, "A transfer", "One step was enough.", [table])
        ...     "One step was enough." in page.read_text(encoding="utf-8")
        True
    """
    try:
        import jinja2
    except ImportError as error:
        raise SettingsError("reports need jinja2: pip install 'symport[report]'") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    shown = [
        {"section": section, "picture": base64.b64encode(section.picture).decode()}
        for section in sections
    ]
    write_text(Path(path), template.render(title=title, summary=summary, sections=shown))


def draw(
    panels: Mapping[str, Mapping[str, Curve]], *, xlabel: str, ylabel: str, log_x: bool = False
) -> "Figure":
    """Draw panels of named curves side by side, with a common y axis.

    A name has the same colour in every panel; the legend is beside the last panel.

    Args:
        panels: Curves by name, in each panel by title.
        xlabel: Label of every x axis.
        ylabel: Label of the y axis.
        log_x: Whether the x axes are logarithmic.

    Raises:
        SettingsError: matplotlib is not installed.

    Example:
        >>> panels = {"source": {"loss": Curve([0, 1], [2.0, 1.0])}}
        >>> [axis.get_title() for axis in draw(panels, xlabel="step", ylabel="nats").axes]
        ['source']
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("pictures need matplotlib: pip install 'symport[report]'") from error
    figure = Figure(figsize=(4.0 * len(panels) + 1.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, curve in curves.items():
            color = f"C{names.index(name)}"
            axis.plot(curve.x, curve.y, label=name, color=color, marker="o", ms=3)
            if curve.spread:
                low = [y - s for y, s in zip(curve.y, curve.spread, strict=True)]
                high = [y + s for y, s in zip(curve.y, curve.spread, strict=True)]
                axis.fill_between(curve.x, low, high, color=color, alpha=0.15, lw=0)
        axis.set_title(title)
        axis.set_xlabel(xlabel)
        if log_x:
            axis.set_xscale("log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    figure.legend(*_legend(list(axes)), loc="outside right center", frameon=False)
    return figure


def png(figure: "Figure") -> bytes:
    """The bytes of a figure as PNG.

    Example:
        >>> figure = draw({"a": {"b": Curve([0], [0])}}, xlabel="x", ylabel="y")
        >>> png(figure)[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def save_picture(path: str | Path, picture: bytes) -> None:
    """Write the bytes of a picture to a file.

    Raises:
        FileError: It cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> figure = draw({"a": {"b": Curve([0], [0])}}, xlabel="x", ylabel="y")
        >>> with TemporaryDirectory() as folder:
        ...     save_picture(f"{folder}/curve.png", png(figure))
    """
    write_bytes(Path(path), picture)


def write_comparison(path: str | Path, found: Comparison) -> None:
    """Write the report of one comparison, with the curves of its transfer.

    Raises:
        FileError: It cannot be written.
        SettingsError: matplotlib or jinja2 is not installed.
    """
    sections = [_results_section(found)]
    if found.chosen_by is not None:
        sections.append(_choice_section(found.chosen_by))
    sections += transfer_sections(found.result)
    write_report(path, f"Transfer with {found.labels} labels", found.verdict, sections)


def _results_section(found: Comparison) -> Section:
    named = {
        "transfer": f"transfer by {found.settings.method}",
        "direct": f"direct training, {found.settings.direct_steps} steps on the same labels",
        "identity": "identity: the source's displacement added as it is",
        "untouched": "untouched: the target initialization",
    }
    rows = [
        (
            title,
            f"{100 * entry.accuracy:.1f} ± {100 * entry.accuracy_error:.1f}",
            f"{entry.nll:.3f}",
        )
        for name, title in named.items()
        if (entry := found.entries.get(name)) is not None
    ]
    text = (
        f"Matching, selection and training used {found.labels} labels. Accuracy, with its "
        f"standard error, was measured on {found.entries['transfer'].right.numel()} held-out "
        f"examples. The transfer ended in {_ending(found)}."
    )
    return Section("Results", text, ("", "accuracy (%)", "NLL (nats)"), rows)


def _ending(found: Comparison) -> str:
    choice = found.result.choice
    if choice.step == 0:
        return "the untouched target: no step scored better"
    by = "" if found.chosen_by is None else ", chosen by cross-validation"
    far = "" if choice.scale == 1 else f", the displacement times {choice.scale:g}"
    is_identity = found.chosen_by is not None and found.chosen_by.choice.kind == "identity"
    kind = " of the identity" if is_identity else ""
    return f"step {choice.step} of {len(found.result.history)}{kind}{far}{by}"


def _choice_section(found: CrossValidation) -> Section:
    """The cross-validated score of each step and of each scale."""
    panels: dict[str, dict[str, Curve]] = {"step t, scale 1": {}, "scale, last step": {}}
    last = max(candidate.step for candidate in found.candidates)
    for kind in ("method", "identity"):
        own = [c for c in found.candidates if c.kind == kind and c.score is not None]
        steps = sorted((c.step, c.score or 0.0) for c in own if c.scale == 1)
        scales = sorted((c.scale, c.score or 0.0) for c in own if c.step == last)
        for title, points in zip(panels, (steps, scales), strict=True):
            if len(points) > 1:
                x, y = zip(*points, strict=True)
                panels[title][kind] = Curve(x, [100 * score for score in y])
    drawn = {title: curves for title, curves in panels.items() if curves}
    picture = png(draw(drawn, xlabel="", ylabel="cross-validated accuracy (%)")) if drawn else b""
    text = (
        "Each fold was scored with the candidates that were matched on the other folds; the "
        "candidate with the best mean score was chosen."
    )
    return Section("How step and scale were chosen", text, picture=picture)


def transfer_sections(result: TransferResult) -> list[Section]:
    """The sections on one transfer: a curve of its scores, and a table of its steps.

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
            for r in result.history
        ],
    )
    text = (
        f"{result.evaluations} gradients in total; units moved is the share of units that are not "
        "at their position in the source."
    )
    sections = [Section("Steps", text, header, rows)]
    if len(scores) == len(steps):
        curves = {"selection set": {"method": Curve(steps, scores)}}
        picture = png(draw(curves, xlabel="step", ylabel="score"))
        sections.insert(0, Section("Score along the transfer", picture=picture))
    return sections


def _filled(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The columns that are not empty."""
    kept = [k for k in range(len(header)) if any(row[k] != NOTHING for row in rows)]
    return [header[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _legend(axes: Sequence["Axes"]) -> "tuple[list[Artist], list[str]]":
    found: dict[str, Artist] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)
