"""A recipe: an experiment at one or more scales, with the published numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from symport_recipes.runner._experiment import Experiment

Scale: TypeAlias = Literal["smoke", "cpu", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
SECONDS, HOURS = "seconds", "GPU hours"
TUNED_NOTE = (
    "cpu: a quarter of the width, 25 of the 100 classes, so that chance is 4 % and not 1 %, and 3 "
    "epochs instead of 30. Published numbers are of all 100 classes."
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A figure or table.

    Attributes:
        name: Of its folder.
        title: What it shows.
        scales: The experiment at each scale that it has.
        costs: In words, how long a pair of seeds takes at each scale, without cached sources.
        axes: Of x and y.
        percent: Whether curves are shares, to be shown in %.
        published: The paper's numbers, as they are printed, by the name that the page gives ours.
        note: What to know before comparing.
    """

    name: str
    title: str
    scales: Mapping[Scale, Experiment[Any, Any]]
    costs: Mapping[Scale, str]
    axes: tuple[str, str] = ("step", "validation accuracy")
    percent: bool = True
    published: Mapping[str, float] = field(default_factory=dict[str, float])
    note: str = ""


def last(naive: float, oracle: float, gmt: float, fgmt: float) -> dict[str, float]:
    """Published numbers of the last step, by their names on the page."""
    names = {"naive": naive, "oracle": oracle, "gmt": gmt, "fgmt": fgmt}
    return {f"{name}, last": value for name, value in names.items()}


def best(naive: float, oracle: float, gmt: float, fgmt: float) -> dict[str, float]:
    """Published numbers of the best step, by their names on the page."""
    return {k.replace("last", "best"): v for k, v in last(naive, oracle, gmt, fgmt).items()}
