"""The command line of the recipes: list them, run one, put the results on a page."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from symport.errors import SettingsError, SymportError
from symport.files import write_text
from symport.report import Section, save_picture, write_report
from symport_recipes.experiment import (
    Experiment,
    Outcome,
    mean_sd,
    picture,
    read_outcome,
    run,
    table,
)
from symport_recipes.figures import FIGURES

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The experiments of the paper, as recipes over symport.",
)
out = Console()


@app.command("list")
def list_command() -> None:
    """List the recipes and what they cost."""
    shown = Table("name", "what", "cost")
    for name, experiment in FIGURES.items():
        shown.add_row(name, experiment.title, experiment.cost)
    out.print(shown)


@app.command("run")
def run_command(
    name: Annotated[str, typer.Argument(help="One of those that `list` shows.")],
    folder: Annotated[Path, typer.Option("--out", help="Results go to a folder in here.")] = Path(
        "runs"
    ),
    seeds: Annotated[int, typer.Option(help="Number of pairs of seeds.")] = 3,
) -> None:
    """Run a recipe; pairs of seeds that are done are not run again."""
    if name not in FIGURES:
        raise SettingsError(f"no recipe {name!r}: {', '.join(FIGURES)}")
    experiment = FIGURES[name]
    outcomes = run(experiment, folder / name, range(seeds))
    _show(experiment, outcomes)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="What `run` was given as --out.")],
    page: Annotated[Path, typer.Option(help="The page to write, .md or .html.")] = Path(
        "report.html"
    ),
) -> None:
    """Write one page with the tables and curves of every recipe found in a folder."""
    found = {
        name: [read_outcome(path) for path in sorted((folder / name).glob("seed-*.json"))]
        for name in FIGURES
        if any((folder / name).glob("seed-*.json"))
    }
    if not found:
        raise SettingsError(f"{folder} holds no results: run a recipe with --out {folder} first")
    image = picture({FIGURES[name].title: outcomes for name, outcomes in found.items()})
    if page.suffix == ".md":
        save_picture(page.with_suffix(".png"), image)
        write_text(page, _markdown(found, page.with_suffix(".png").name))
    else:
        sections = [_section(FIGURES[name], outcomes) for name, outcomes in found.items()]
        write_report(
            page, "Transfer experiments", "", [Section("Curves", picture=image), *sections]
        )
    out.print(f"written: {page}", highlight=False)


def main() -> None:
    """Run the command line; an error raised on purpose becomes one line and exit code 1."""
    try:
        app()
    except SymportError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise SystemExit(1) from None


def _header(experiment: Experiment) -> list[str]:
    return ["", *(f"step {t}" for t in range(experiment.steps + 1)), "published", "gradients"]


def _text(outcomes: list[Outcome]) -> str:
    source, target = (mean_sd([getattr(o, k) for o in outcomes]) for k in ("source", "target"))
    direct = mean_sd([outcome.direct for outcome in outcomes])
    minutes = sum(o.training_seconds + sum(o.elapsed_seconds.values()) for o in outcomes) / 60
    return (
        f"Validation accuracy in %, {len(outcomes)} seed pairs, mean ± sd. "
        f"Trained source {source}, trained target {target}; direct training on the same labels "
        f"with as many gradients as FGMT {direct}. {minutes:.0f} minutes in all."
    )


def _section(experiment: Experiment, outcomes: list[Outcome]) -> Section:
    rows = table(experiment, outcomes)
    return Section(experiment.title, _text(outcomes), _header(experiment), rows)


def _markdown(found: dict[str, list[Outcome]], image: str) -> str:
    lines = ["# The paper's experiments, repeated", "", f"![Accuracy along the steps]({image})", ""]
    for name, outcomes in found.items():
        section = _section(FIGURES[name], outcomes)
        lines += [f"## {section.title}", "", section.text, ""]
        cells = [list(section.header), ["---"] * len(section.header), *map(list, section.rows)]
        lines += [f"| {' | '.join(row)} |" for row in cells]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _show(experiment: Experiment, outcomes: list[Outcome]) -> None:
    shown = Table(*_header(experiment), title=experiment.title)
    for row in table(experiment, outcomes):
        shown.add_row(*row)
    out.print(shown)
    out.print(_text(outcomes), highlight=False)
