"""The results of porting as one page, with a picture."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from symport.io import write_text
from symport.report import Curve, draw, png, save_picture
from symport_recipes.ports._running import Found
from symport_recipes.ports._words import NOTE, head
from symport_recipes.runner import markdown, mean_sd, sd

Share: TypeAlias = tuple[float, float]
OPTIONS_FILE = "ports/options.json"
WAYS = {
    "identity": "identity",
    "weights": "weight matching",
    "activations": "activation matching",
    "transfer": "FGMT",
    "direct": "direct training",
    "then direct": "transfer, then direct training",
}
LOWEST = -0.5  # shown in the picture; an overconfident classifier may be far below
TITLES = {
    "llama": "Llama, all weights",
    "llama-lora": "Llama, LoRA",
    "bert": "BERT, classifier",
    "vit": "ViT, images",
}


def page(found: Sequence[Found], head: str, ending: Sequence[str]) -> str:
    """The page in Markdown: what was done, a picture, tables for each scene and new base."""
    lines = [head, "![Share of lift to the independent base](ports.png)", ""]
    for scene in dict.fromkeys(f.scene for f in found):
        lines += [f"## {TITLES.get(scene, scene)}", ""]
        own = [f for f in found if f.scene == scene]
        for target in dict.fromkeys(f.target for f in own):
            lines += section(target, [f for f in own if f.target == target])
    return "\n".join([*lines, *ending, ""])


def section(target: str, found: Sequence[Found]) -> list[str]:
    """What the page says of one new base; classifiers also show their share of right answers."""
    counts = sorted({f.count for f in found})
    picked = ["picked by the examples", *(", ".join(_picks(found, count)) for count in counts)]
    lines = [f"### To the {target} base", "", _losses(found), ""]
    shares = _rows(found, lambda f, way: f.share(way))
    lines += markdown(_header("share of lift", found), [*shares, picked])
    if all(f.accuracies for f in found):
        right = _rows(found, lambda f, way: f.accuracies[way])
        lines += ["", *markdown(_header("right answers", found), right)]
    return [*lines, ""]


def _header(what: str, found: Sequence[Found]) -> list[str]:
    draws = Counter(f.count for f in found)
    return [f"{what}, %", *(f"{count} examples, {n}×" for count, n in sorted(draws.items()))]


def _rows(found: Sequence[Found], value: Callable[[Found, str], float]) -> list[list[str]]:
    """A row for each way that all runs have, a column for each number of examples."""
    counts = sorted({f.count for f in found})
    return [
        [title, *(spread([value(f, way) for f in found if f.count == c]) for c in counts)]
        for way, title in WAYS.items()
        if all(way in f.losses for f in found)
    ]


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation in %, the latter if there is more than one.

    Example:
        >>> spread([0.5])
        '50.0'
    """
    return mean_sd(shares) if len(shares) > 1 else f"{100 * shares[0]:.1f}"


def picture(found: Sequence[Found]) -> bytes:
    """Share of lift to the independent base against the number of examples, a panel a scene."""
    panels: dict[str, dict[str, Curve]] = {}
    for scene in dict.fromkeys(f.scene for f in found):
        own = [f for f in found if f.scene == scene and f.target == "independent"]
        panels[TITLES[scene]] = {title: _curve(own, way) for way, title in WAYS.items()}
    figure = draw(panels, xlabel="examples", ylabel="share of lift", log_x=True)
    counts = sorted({f.count for f in found})
    for axis in figure.axes:
        axis.set_ylim(bottom=max(LOWEST, axis.get_ylim()[0]))
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set_xticks([], minor=True)
    return png(figure)


def _curve(found: Sequence[Found], way: str) -> Curve:
    counts = sorted({f.count for f in found})
    columns = [[f.share(way) for f in found if f.count == count] for count in counts]
    return Curve(counts, [sum(c) / len(c) for c in columns], [sd(c) for c in columns])


def _picks(found: Sequence[Found], count: int) -> list[str]:
    picks = Counter(f.pick for f in found if f.count == count)
    names = {"untouched": "untouched", **WAYS}
    return [f"{names[way]} {times}×" for way, times in picks.most_common()]


def _losses(found: Sequence[Found]) -> str:
    losses, right = found[0].losses, found[0].accuracies
    listed = [
        f"{name} {losses[way]:.3f}" + (f" ({right[way]:.1%} right)" if way in right else "")
        for way, name in (
            ("old base", "old base"),
            ("fine-tune", "its fine-tune"),
            ("untouched", "new base"),
        )
    ]
    return f"Losses: {', '.join(listed)}."


def write_ports(folder: Path, found: Sequence[Found]) -> Sequence[Path]:
    """Write the page of all ports and its picture; nothing if there are none."""
    if not found:
        return ()
    save_picture(folder / "ports.png", picture(found))
    options = read_options(folder)
    ending = [*NOTE, *options_table(options)] if options else []
    write_text(folder / "ports.md", page(found, head({f.scene for f in found}), ending))
    return (folder / "ports.md",)


def read_options(folder: Path) -> dict[str, list[Share]]:
    """The shares of lift by option, one entry for each seed; none if there is no file."""
    path = folder / OPTIONS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def options_table(found: Mapping[str, list[Share]]) -> list[str]:
    """The lines of a table in Markdown."""
    rows = [
        [name, str(len(rows)), *(spread(list(side)) for side in zip(*rows, strict=True))]
        for name, rows in found.items()
    ]
    return markdown(["", "draws", "best step and scale", "last step"], rows)
