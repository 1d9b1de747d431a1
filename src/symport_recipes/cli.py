"""The command line of the recipes: list them, run one, put the results on a page."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from symport import distributed
from symport.cli import DEBUG_HELP, console, run_app
from symport.errors import SettingsError
from symport_recipes.data import DOWNLOADS, VARIABLE, fetch
from symport_recipes.figures import FIGURES
from symport_recipes.runner import (
    SCALES,
    Experiment,
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
    help="The experiments of the paper, as recipes over symport.",
    epilog=DEBUG_HELP,
)
out, err = console(), console(stderr=True)
LARGEST_SEED = 10**9

ScaleOption = Annotated[
    str | None,
    typer.Option(
        help="smoke: seconds. cpu: smaller, real data, two cores. paper: as published. Without it "
        "cpu, or paper for want of that."
    ),
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
    out.print(shown, soft_wrap=False)


@app.command("run")
def run_command(
    name: Annotated[str, typer.Argument(help="One of those that `list` shows.")],
    scale: ScaleOption = None,
    seeds: Annotated[int, typer.Option(help="Number of pairs of seeds.", min=1)] = 3,
    seed: Annotated[
        int | None,
        typer.Option(help="Run this one alone, for a job array.", min=0, max=LARGEST_SEED),
    ] = None,
    folder: Out = Path("runs"),
    cache: Annotated[Path, typer.Option(help="Where trained networks are kept.")] = Path(
        "runs/trained"
    ),
    device: Annotated[
        str, typer.Option(help="Where to compute: cpu; cuda, one GPU a process; cuda:1.")
    ] = "cpu",
    together: Annotated[
        bool,
        typer.Option("--together", help="Under torchrun: all processes on one pair at a time."),
    ] = False,
) -> None:
    """Run a recipe; pairs of seeds that are done are not run again.

    Under torchrun, or anything else that sets RANK and WORLD_SIZE, each process takes its share of
    the seeds; with --together, its share of every batch.
    """
    recipe = _recipe(name)
    scale = scale or ("cpu" if "cpu" in recipe.scales else "paper")
    experiment = _at(recipe, scale)
    bench = Bench(cache, device_of(device))
    if together:
        join(bench.device)
    if distributed.rank() == 0:
        cost = {str(known): words for known, words in recipe.costs.items()}[scale]
        err.print(f"{name} at scale {scale}: a pair of seeds takes {cost}")
    every = range(seeds) if seed is None else [seed]
    run(experiment, folder / name / scale, every if together else share(every), bench)
    done = read_outcomes(folder / name / scale)
    if distributed.rank() == 0:
        pairs = "1 pair" if len(done) == 1 else f"{len(done)} pairs"
        out.print(f"{recipe.title}: {pairs} of seeds in {folder / name / scale}")


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
    out.print(f"written: {page}")


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(DOWNLOADS)}.")],
    folder: Annotated[Path, typer.Option("--to", help="The data set gets a folder in it.")],
) -> None:
    """Fetch official data, each file known by its published md5; what is there already stays.

    ImageNet and Cars cannot be fetched without their makers' leave: the message says which files
    to put where.
    """
    found = fetch(name, folder, show=True)
    out.print(f"{name} is in {found}; recipes find it with {VARIABLE}={folder}")


def main() -> None:
    """Run the command line; an error becomes one line and exit code 1."""
    run_app(app)


def _recipe(name: str) -> Recipe:
    if name not in FIGURES:
        raise SettingsError(f"no recipe {name!r}: {', '.join(FIGURES)}")
    return FIGURES[name]


def _at(recipe: Recipe, scale: str) -> Experiment:
    found: dict[str, Experiment] = {str(name): value for name, value in recipe.scales.items()}
    if scale not in found:
        raise SettingsError(f"{recipe.name} has no scale {scale!r}: {', '.join(found)}")
    return found[scale]
