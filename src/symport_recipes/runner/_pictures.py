"""The picture of a result: its curves, and the plane of the first pair of seeds if it has one."""

import statistics
from collections.abc import Sequence

from symport.model import LandscapePlane
from symport.report import Curve, draw, png
from symport_recipes.runner._pairs import Outcome
from symport_recipes.runner._recipe import Recipe
from symport_recipes.runner._tables import sd

WIDE = 30  # an x axis whose ends differ by more than this factor is logarithmic


def picture(recipe: Recipe, outcomes: Sequence[Outcome]) -> bytes:
    """A PNG, or nothing if there is nothing to draw."""
    found = outcomes[0].found
    if found.plane is not None:
        return plane_picture(found.plane, recipe.axes[1])
    if not found.curves:
        return b""
    log = min(found.x) > 0 and max(found.x) > WIDE * min(found.x)
    xlabel, ylabel = recipe.axes
    panel = {recipe.title.partition(":")[0]: curves(outcomes)}
    return png(draw(panel, xlabel=xlabel, ylabel=ylabel, log_x=log))


def curves(outcomes: Sequence[Outcome]) -> dict[str, Curve]:
    """Mean and spread of each curve over the pairs."""
    x = outcomes[0].found.x
    result: dict[str, Curve] = {}
    for name in outcomes[0].found.curves:
        columns = list(zip(*(o.found.curves[name] for o in outcomes), strict=True))
        means = [statistics.mean(column) for column in columns]
        result[name] = Curve(x[: len(means)], means, [sd(column) for column in columns])
    return result


def plane_picture(plane: LandscapePlane, label: str) -> bytes:
    """Scores on the plane through three networks, as contours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.subplots()
    shown = axis.contourf(plane.x, plane.y, plane.values, levels=20, cmap="viridis_r")
    figure.colorbar(shown, label=label)
    for (x, y), name in zip(
        plane.corners, ("target", "fgmt, trained on", "permuted source"), strict=True
    ):
        axis.plot(x, y, "o", color="black", ms=4)
        side = "right" if x > sum(plane.x) / len(plane.x) else "left"
        axis.annotate(name, (x, y), textcoords="offset points", xytext=(0, 5), ha=side)
    axis.set_xlabel("distance between parameters")
    return png(figure)
