"""Draw a permutation spec: which axes of which tensors move together."""

from typing import TYPE_CHECKING

from symport.errors import SettingsError
from symport.spec import PermutationSpec, groups_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TENSORS = 400  # taller figures are illegible, and matplotlib rejects them
COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5")


def draw_spec(spec: PermutationSpec) -> "Figure":
    """A row for each tensor, a column for each group, and a mark where an axis moves with it.

    The colour of a mark is the axis. Columns are labelled with the name of the group, a nested
    group's with its path, and its size.

    Raises:
        SettingsError: matplotlib is not installed, or the spec has no groups or more than 400
            tensors.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h .", "b": "h"}, sizes={"h": 3})
        >>> [label.get_text() for label in draw_spec(spec).axes[0].get_yticklabels()]
        ['w', 'b']
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("pictures need matplotlib: pip install 'symport[report]'") from error
    names = [name for name, pattern in spec.patterns.items() if pattern]
    if not spec.groups or len(names) > MOST_TENSORS:
        raise SettingsError(
            f"{len(spec.groups)} groups over {len(names)} tensors cannot be drawn: "
            f"a picture needs a group, and at most {MOST_TENSORS} tensors"
        )
    columns = {name: k for k, name in enumerate(spec.groups)}
    sized = [f"{name} ({group.size})" for name, group in spec.groups.items()]
    longest, tallest = max(map(len, names)), max(map(len, sized))
    size = (1.0 + 0.3 * len(columns) + 0.065 * longest, 1.0 + 0.19 * len(names) + 0.065 * tallest)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for axis, (xs, ys) in _marks(spec, names, columns).items():
        axes.scatter(xs, ys, s=26, marker="s", color=COLOURS[axis % 6], label=f"axis {axis}")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xticks(range(len(columns)), sized, rotation=90, fontsize=7)
    axes.set_xlim(-0.7, len(columns) - 0.3)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def _marks(
    spec: PermutationSpec, names: list[str], columns: dict[str, int]
) -> dict[int, tuple[list[float], list[float]]]:
    """The coordinates of the marks of each axis; those of one tensor are side by side."""
    marks: dict[int, tuple[list[float], list[float]]] = {}
    for row, name in enumerate(names):
        for axis, term in enumerate(spec.patterns[name]):
            for group in dict.fromkeys(groups_in(term)):
                xs, ys = marks.setdefault(axis, ([], []))
                xs.append(columns[group] + 0.16 * (axis - 0.5))
                ys.append(row)
    return dict(sorted(marks.items()))
