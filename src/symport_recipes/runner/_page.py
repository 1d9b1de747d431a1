"""The results of recipes as one page: the published number, ours, the difference, at what cost."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from symport.io import make_folder, write_text
from symport.report import save_picture
from symport_recipes.runner._pairs import Outcome
from symport_recipes.runner._pictures import picture
from symport_recipes.runner._recipe import Recipe, Scale
from symport_recipes.runner._tables import markdown, mean_sd

MOST_COLUMNS = 8

HEAD = """# The paper, reproduced

Every experiment of Chijiwa (2024) is a recipe: `symport-recipes list` shows them, their scales and
what they cost. This page is made by `symport-recipes report` from the files of the runs that are
committed with it; each section names the command that repeats its run. Numbers are mean ± standard
deviation over pairs of seeds, accuracies in % on a validation set that trained nothing.

Scale *paper* is the published setting, *cpu* a smaller one for two cores: then a difference to the
published number mixes the smaller setting with everything else, and the order of the methods is
what can be compared. Scale *smoke* runs a recipe on the built-in digits, to see it work, and is
compared with nothing.
"""


@dataclass(frozen=True)
class Result:
    """A recipe at a scale, with what came out."""

    recipe: Recipe
    scale: Scale
    outcomes: Sequence[Outcome]

    @property
    def name(self) -> str:
        """What its picture is called."""
        return f"{self.recipe.name}-{self.scale}"


def write_page(path: Path, results: Sequence[Result]) -> None:
    """Write a page in Markdown, and the picture of each result to a folder beside it.

    Raises:
        FileError: A file cannot be written.
        SettingsError: matplotlib is not installed.
    """
    pictures = path.parent / f"{path.stem}-pictures"
    make_folder(pictures)
    lines = [HEAD]
    for result in results:
        drawn = picture(result.recipe, result.outcomes)
        lines += [f"## {result.recipe.title}", ""]
        if drawn:
            save_picture(pictures / f"{result.name}.png", drawn)
            lines += [f"![{result.recipe.title}]({pictures.name}/{result.name}.png)", ""]
        lines += section(result)
    write_text(path, "\n".join(lines))


def section(result: Result) -> list[str]:
    """What the page says of one result."""
    recipe, outcomes = result.recipe, result.outcomes
    lines = [_about(result), ""]
    if recipe.note:
        lines += [recipe.note, ""]
    compared = [] if result.scale == "smoke" else comparison(result)
    if compared:
        lines += [*markdown(("", "published", "ours", "difference"), compared), ""]
    if outcomes[0].found.curves:
        lines += [*curve_table(result), ""]
    shown = {row[0] for row in compared}
    others = [[name, *values] for name, values in _listed(result).items() if name not in shown]
    if others:
        lines += [*markdown(("", "mean ± sd"), others), ""]
    if costs := cost_rows(outcomes):
        lines += [*markdown(("cost", "gradients", "seconds"), costs), ""]
    return lines


def comparison(result: Result) -> list[list[str]]:
    """A row for each published number that we have one for."""
    rows: list[list[str]] = []
    for name, published in result.recipe.published.items():
        values = [value for o in result.outcomes if (value := named(o, name)) is not None]
        if values:
            percent, digits = _form(result, name)
            difference = (100 if percent else 1) * statistics.mean(values) - published
            rows.append(
                [
                    name,
                    f"{published:g}",
                    mean_sd(values, percent=percent, digits=digits),
                    f"{difference:+.{digits}f}",
                ]
            )
    return rows


def named(outcome: Outcome, name: str) -> float | None:
    """A number by its name: a share, a number, or "curve, last", "curve, best", "curve, at X"."""
    found = outcome.found
    for mapping in (found.shares, found.numbers):
        if name in mapping:
            return mapping[name]
    curve, _, where = name.rpartition(", ")
    values = found.curves.get(curve)
    if values is None:
        return None
    if where in ("last", "best"):
        return values[-1] if where == "last" else max(values)
    x = float(where.removeprefix("at "))
    return dict(zip(found.x, values, strict=False)).get(x)


def curve_table(result: Result) -> list[str]:
    """Mean and spread of every curve at a few places."""
    found = result.outcomes[0].found
    places = spaced(len(found.x), MOST_COLUMNS)
    percent, digits = result.recipe.percent, 1 if result.recipe.percent else 3
    header = [result.recipe.axes[0], *(f"{found.x[k]:g}" for k in places)]
    rows: list[list[str]] = []
    for name in found.curves:
        columns = [[o.found.curves[name][k] for o in result.outcomes] for k in places]
        rows.append([name, *(mean_sd(c, percent=percent, digits=digits) for c in columns)])
    return markdown(header, rows)


def spaced(count: int, most: int) -> list[int]:
    """At most so many places out of `count`, evenly spaced, both ends included.

    Example:
        >>> spaced(31, 4)
        [0, 10, 20, 30]
    """
    if count <= most:
        return list(range(count))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def cost_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Gradients and seconds of each method, mean over the pairs."""
    first = outcomes[0].found
    names = list(dict.fromkeys([*first.evaluations, *first.seconds]))
    return [
        [
            name,
            _mean((o.found.evaluations.get(name) for o in outcomes), 0),
            _mean((o.found.seconds.get(name) for o in outcomes), 1),
        ]
        for name in names
    ]


def _mean(values: Iterable[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.{digits}f}" if known else "–"


def _listed(result: Result) -> dict[str, list[str]]:
    first = result.outcomes[0].found
    rows: dict[str, list[str]] = {}
    for mapping, percent, digits in ((first.shares, True, 1), (first.numbers, False, 2)):
        for name in mapping:
            values = [named(o, name) or 0.0 for o in result.outcomes]
            rows[name] = [mean_sd(values, percent=percent, digits=digits)]
    return rows


def _form(result: Result, name: str) -> tuple[bool, int]:
    found = result.outcomes[0].found
    percent = name in found.shares or (name not in found.numbers and result.recipe.percent)
    return percent, 1 if percent else 2


def _about(result: Result) -> str:
    outcomes = result.outcomes
    minutes = sum(float(o.environment.get("seconds", 0)) for o in outcomes) / 60
    first = outcomes[0].environment
    count = f"{len(outcomes)} pair" + ("s" if len(outcomes) > 1 else "")
    threads = f"{first['threads']} threads, " if "threads" in first else ""
    where = f"{first.get('device', 'cpu')}, {threads}torch {first['torch']}"
    command = (
        f"symport-recipes run {result.recipe.name} --scale {result.scale} --seeds {len(outcomes)}"
    )
    return f"Scale *{result.scale}*, {count} of seeds, {minutes:.0f} minutes ({where}). `{command}`"
