"""The command line of the recipes: list them, run one, write the results to a page."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from symport import distributed
from symport.cli import DEBUG_HELP, console, run_app
from symport.errors import SettingsError
from symport_recipes.data import DOWNLOADS, VARIABLE, cache_folder, fetch
from symport_recipes.recipes import RECIPES
from symport_recipes.runner import (
    SCALES,
    Experiment,
    PairExperiment,
    Recipe,
    Result,
    device_of,
    join,
    read_outcomes,
    run,
    share,
    write_page,
)
from symport_recipes.setups import Bench

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The experiments of the paper, as recipes that use symport.",
    epilog=DEBUG_HELP,
)
out, err = console(), console(stderr=True)
LARGEST_SEED = 10**9

ScaleOption = Annotated[
    str | None,
    typer.Option(
        help="smoke: seconds. cpu: smaller, real data, two cores. paper: as published. Default: "
        "cpu, or paper if the recipe has no scale cpu."
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Results of the paper's recipes go to OUT/NAME/SCALE/seed-*.json, others to OUT.",
    ),
]


@app.command("list")
def list_command() -> None:
    """List the recipes with their scales and costs; those of the paper for one pair of seeds."""
    shown = Table("name", "title", *SCALES)
    for recipe in RECIPES.values():
        costs = [
            recipe.costs.get(scale, "–") if scale in recipe.scales else "–" for scale in SCALES
        ]
        shown.add_row(recipe.name, recipe.title, *costs)
    out.print(shown, soft_wrap=False)


@app.command("run")
def run_command(
    name: Annotated[str, typer.Argument(help="A name that `list` shows.")],
    scale: ScaleOption = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds, or of pairs of them; 3 for most recipes.", min=1),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Run only this seed, for a job array.", min=0, max=LARGEST_SEED),
    ] = None,
    folder: Out = Path("runs"),
    cache: Annotated[
        Path | None,
        typer.Option(help="Where trained networks are kept; by default in the user's cache."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device: cpu; cuda, one GPU per process; cuda:1.")
    ] = "cpu",
    together: Annotated[
        bool,
        typer.Option("--together", help="Under torchrun: all processes on one pair at a time."),
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Repeat finished measurements.")] = False,
) -> None:
    """Run a recipe; finished measurements are not repeated.

    Under torchrun, or anything else that sets RANK and WORLD_SIZE, each process takes its share of
    the seeds; with --together, its share of every batch.
    """
    recipe = _recipe(name)
    scale = scale or ("cpu" if "cpu" in recipe.scales else "paper")
    experiment = _at(recipe, scale)
    bench = Bench(cache or cache_folder("trained"), device_of(device))
    if together:
        join(bench.device)
    unit = "a pair of seeds" if isinstance(experiment, PairExperiment) else "everything"
    if distributed.rank() == 0:
        cost = {str(known): words for known, words in recipe.costs.items()}[scale]
        err.print(f"{name} at scale {scale}: {unit} takes {cost}")
    every = range(seeds or experiment.seeds) if seed is None else [seed]
    place = experiment.folder_in(folder, name, scale)
    run(experiment, place, every if together else share(every), bench, anew=anew)
    if distributed.rank() == 0:
        for path in experiment.publish(place):
            out.print(f"written: {path}")
        if isinstance(experiment, PairExperiment):
            done = len(read_outcomes(place))
            pairs = "1 pair" if done == 1 else f"{done} pairs"
            out.print(f"{recipe.title}: {pairs} of seeds in {place}")


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="The folder that `run` got as --out.")],
    page: Annotated[Path, typer.Option(help="The page to write; pictures go next to it.")] = Path(
        "report.md"
    ),
) -> None:
    """Write a page with all results of a folder, next to the published numbers.

    Recipes that have their own page rewrite it in the folder.
    """
    published = [
        path
        for recipe in RECIPES.values()
        for experiment in recipe.scales.values()
        for path in experiment.publish(folder)
    ]
    results = [
        Result(recipe, scale, outcomes)
        for recipe in RECIPES.values()
        for scale in SCALES
        if (outcomes := read_outcomes(folder / recipe.name / scale))
    ]
    if results:
        write_page(page, results)
        published.append(page)
    if not published:
        raise SettingsError(f"{folder} holds no results: run a recipe with --out {folder} first")
    for path in dict.fromkeys(published):
        out.print(f"written: {path}")


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(DOWNLOADS)}.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--to", help="Parent of the data set's folder; by default in the user's cache."
        ),
    ] = None,
) -> None:
    """Download an official data set, check the published md5 of its files; existing files are kept.

    ImageNet and Cars require a licence of their authors: the message names the files to download
    and where to put them.
    """
    found = fetch(name, folder, show=True)
    named = "" if folder is None else f" with {VARIABLE}={folder}"
    out.print(f"{name} is in {found}; recipes find it{named}")


def main() -> None:
    """Run the command line; an error becomes one line and exit code 1."""
    run_app(app)


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise SettingsError(f"no recipe {name!r}: {', '.join(RECIPES)}")
    return RECIPES[name]


def _at(recipe: Recipe, scale: str) -> Experiment[Any, Any]:
    found: dict[str, Experiment[Any, Any]] = {
        str(name): value for name, value in recipe.scales.items()
    }
    if scale not in found:
        raise SettingsError(f"{recipe.name} has no scale {scale!r}: {', '.join(found)}")
    return found[scale]
