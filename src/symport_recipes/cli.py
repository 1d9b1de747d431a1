"""The command line of the recipes: list them, run one, put the results on a page."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from symport.errors import SettingsError, SymportError
from symport_recipes.experiment import Experiment, read_outcomes, run
from symport_recipes.figures import FIGURES
from symport_recipes.page import Result, write_page
from symport_recipes.recipe import SCALES, Recipe
from symport_recipes.scene import Bench

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The experiments of the paper, as recipes over symport.",
)
out = Console()

ScaleOption = Annotated[
    str,
    typer.Option(help="smoke: seconds. cpu: smaller, real data, two cores. paper: as published."),
]
Out = Annotated[Path, typer.Option("--out", help="Results go to OUT/NAME/SCALE/seed-*.json.")]


@app.command("list")
def list_command() -> None:
    """List the recipes, their scales, and what a pair of seeds costs at each."""
    shown = Table("name", "what", *SCALES)
    for recipe in FIGURES.values():
        costs = [
            recipe.costs.get(scale, "–") if scale in recipe.scales else "–" for scale in SCALES
        ]
        shown.add_row(recipe.name, recipe.title, *costs)
    out.print(shown)


@app.command("run")
def run_command(
    name: Annotated[str, typer.Argument(help="One of those that `list` shows.")],
    scale: ScaleOption = "cpu",
    seeds: Annotated[int, typer.Option(help="Number of pairs of seeds.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Run this one alone, for a job array.")] = None,
    folder: Out = Path("runs"),
    cache: Annotated[Path, typer.Option(help="Where trained networks are kept.")] = Path(
        "runs/trained"
    ),
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")] = "cpu",
) -> None:
    """Run a recipe; pairs of seeds that are done are not run again.

    Under torchrun, or anything else that sets RANK and WORLD_SIZE, each process takes its share of
    the seeds.
    """
    recipe = _recipe(name)
    experiment = _at(recipe, scale)
    chosen = _shared(range(seeds)) if seed is None else [seed]
    run(experiment, folder / name / scale, chosen, Bench(cache, device))
    done = read_outcomes(folder / name / scale)
    out.print(f"{recipe.title}: {len(done)} pairs of seeds in {folder / name / scale}")


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="What `run` was given as --out.")],
    page: Annotated[Path, typer.Option(help="The page to write; pictures go beside it.")] = Path(
        "report.md"
    ),
) -> None:
    """Write one page with every result found in a folder beside the published numbers."""
    results = [
        Result(recipe, scale, outcomes)
        for recipe in FIGURES.values()
        for scale in SCALES
        if (outcomes := read_outcomes(folder / recipe.name / scale))
    ]
    if not results:
        raise SettingsError(f"{folder} holds no results: run a recipe with --out {folder} first")
    write_page(page, results)
    out.print(f"written: {page}", highlight=False)


def main() -> None:
    """Run the command line; an error raised on purpose becomes one line and exit code 1."""
    try:
        app()
    except SymportError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise SystemExit(1) from None


def _recipe(name: str) -> Recipe:
    if name not in FIGURES:
        raise SettingsError(f"no recipe {name!r}: {', '.join(FIGURES)}")
    return FIGURES[name]


def _at(recipe: Recipe, scale: str) -> Experiment:
    found: dict[str, Experiment] = {str(name): value for name, value in recipe.scales.items()}
    if scale not in found:
        raise SettingsError(f"{recipe.name} has no scale {scale!r}: {', '.join(found)}")
    return found[scale]


def _shared(seeds: range) -> range:
    return seeds[int(os.environ.get("RANK", "0")) :: int(os.environ.get("WORLD_SIZE", "1"))]
