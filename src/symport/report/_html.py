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
        x: Where.
        y: How much, as long as `x`.
        spread: Standard deviation around it, or empty.
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
        header: Names of the columns of its table; empty for none.
        rows: Cells of the table, row by row.
        picture: PNG bytes of a figure; empty for none.
        words: Numbers of the columns that hold words, which stand on the left and wrap.
    """

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: bytes = b""
    words: Sequence[int] = ()


def write_report(path: str | Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Write one HTML file that needs no other.

    Raises:
        FileError: It cannot be written.
        SettingsError: jinja2 is not installed.
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
    """Draw panels side by side that share their y axis, each with named curves.

    A name has the same colour in every panel; the legend stands beside the last panel.

    Raises:
        SettingsError: matplotlib is not installed.
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
    """The figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def save_picture(path: str | Path, picture: bytes) -> None:
    """Write a picture; raises FileError if it cannot be written."""
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
        f"The {found.labels} labels at hand matched, chose and trained. Accuracy, with its "
        f"standard error, is on {found.entries['transfer'].right.numel()} others that chose "
        f"nothing. The transfer ended in {_ending(found)}."
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
    """The cross-validated score of each step and of each length."""
    panels: dict[str, dict[str, Curve]] = {"step t, length 1": {}, "length, last step": {}}
    last = max(candidate.step for candidate in found.candidates)
    for kind in ("method", "identity"):
        own = [c for c in found.candidates if c.kind == kind and c.score is not None]
        steps = sorted((c.step, c.score or 0.0) for c in own if c.scale == 1)
        lengths = sorted((c.scale, c.score or 0.0) for c in own if c.step == last)
        for title, points in zip(panels, (steps, lengths), strict=True):
            if len(points) > 1:
                x, y = zip(*points, strict=True)
                panels[title][kind] = Curve(x, [100 * score for score in y])
    drawn = {title: curves for title, curves in panels.items() if curves}
    picture = png(draw(drawn, xlabel="", ylabel="cross-validated accuracy (%)")) if drawn else b""
    text = "Each fold of the labels scored what was matched on the others; the best mean was taken."
    return Section("How step and length were chosen", text, picture=picture)


def transfer_sections(result: TransferResult) -> list[Section]:
    """What a report says of one transfer: scores, objective and moved units over the steps."""
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
    text = f"{result.evaluations} gradients in all; units moved counts from the source's order."
    sections = [Section("Steps", text, header, rows)]
    if len(scores) == len(steps):
        curves = {"selection set": {"method": Curve(steps, scores)}}
        picture = png(draw(curves, xlabel="step", ylabel="score"))
        sections.insert(0, Section("Score along the transfer", picture=picture))
    return sections


def _filled(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The columns that say something."""
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
