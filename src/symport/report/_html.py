"""Draw curves and write self-contained HTML reports. Nothing is computed here."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from symport.errors import SettingsError
from symport.io import write_bytes, write_text

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


def _legend(axes: Sequence["Axes"]) -> "tuple[list[Artist], list[str]]":
    found: dict[str, Artist] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)
