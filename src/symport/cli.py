"""The command line: parse, call one function of the library, print or save."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from symport.batches import Labelled
from symport.compare import METHODS, Case, CompareSettings, Comparison, compare
from symport.errors import SettingsError, SymportError
from symport.files import load_tensors
from symport.loading import LOSSES, load_examples, load_loss, load_model
from symport.report import write_comparison
from symport.spec import PermutationSpec
from symport.symmetry import discover
from symport.trajectory import Trajectory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Carry a training run over to another network, without training it.",
)
out = Console()

Model = Annotated[str, typer.Option(help="A function that makes the network, as module:function.")]


@app.command("discover")
def discover_command(
    model: Model,
    inputs: Annotated[
        str,
        typer.Option(help="An example input: its shape, such as 1,3,32,32, or a file of examples."),
    ],
    save: Annotated[Path | None, typer.Option(help="Write the spec to this JSON file.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail if a group fails its proof.")] = False,
    reasons: Annotated[bool, typer.Option(help="Say why each axis that stays does so.")] = False,
) -> None:
    """Find and prove which axes of a network can be permuted together."""
    spec = discover(load_model(model), _example(inputs), strict=strict)
    out.print(str(spec), markup=False, highlight=False, soft_wrap=True)
    if reasons:
        for name, why in spec.reasons.items():
            for axis, reason in why.items():
                out.print(f"{name}, axis {axis} stays: {reason}", markup=False, highlight=False)
    if save is not None:
        spec.save(save)


@app.command("transfer")
def transfer_command(
    model: Model,
    target: Annotated[Path, typer.Option(help="The target initialization, a state dict.")],
    data: Annotated[
        str,
        typer.Option(
            help="The labelled examples at hand: a .safetensors or .npz file with 'inputs' and "
            "'labels', or module:function returning both."
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="Where results go; resumed if begun.")],
    source: Annotated[
        Path | None, typer.Option(help="The source's trajectory: a folder of step files.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Instead of --source: the source's initialization …")
    ] = None,
    end: Annotated[Path | None, typer.Option(help="… and its trained weights.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Length T. Default: 10 for two ends, all recorded steps.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Labelled examples that only report; form as --data.")
    ] = None,
    hold_out: Annotated[
        float, typer.Option(help="Without --test: the share of examples that only report.")
    ] = 0.2,
    loss: Annotated[
        str, typer.Option(help=f"{', '.join(LOSSES)}, or module:function.")
    ] = "cross-entropy",
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "fgmt",
    spec: Annotated[
        Path | None, typer.Option(help="A spec file; otherwise the symmetry is discovered.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples in a gradient.")] = 256,
    folds: Annotated[
        int, typer.Option(help="Folds that choose step and length; 0 takes the last step.")
    ] = 5,
    direct_steps: Annotated[
        int, typer.Option(help="Steps of direct training to compare with; 0 for none.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of splits, folds and batches.")] = 0,
) -> None:
    """Transfer a source's training to a target, and say whether it was worth it.

    Writes params.safetensors (the chosen weights), permutation.safetensors, history.jsonl,
    result.json and report.html. Interrupted, the same command goes on.
    """
    net = load_model(model)
    labelled, reporting = _reporting(load_examples(data), test, hold_out, seed)
    symmetry = PermutationSpec.load(spec) if spec else discover(net, labelled.inputs[:2])
    case = Case(
        net,
        load_loss(loss),
        _trajectory(source, start, end, steps),
        load_tensors(target),
        symmetry,
        labelled,
    )
    settings = CompareSettings(
        method=method, batch_size=batch_size, folds=folds, direct_steps=direct_steps, seed=seed
    )
    try:
        found = compare(case, reporting, settings, folder=folder, progress=True)
    except KeyboardInterrupt:
        out.print("stopped: the same command goes on from the last finished step")
        raise typer.Exit(130) from None
    write_comparison(folder / "report.html", found)
    _show(found, folder)


def main() -> None:
    """Run the command line; an error raised on purpose becomes one line and exit code 1."""
    try:
        app()
    except SymportError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise SystemExit(1) from None


def _example(text: str) -> Tensor:
    """Zeros of a shape, or the first two of a file of examples."""
    if text.replace(",", "").replace(" ", "").isdigit():
        return torch.zeros([int(part) for part in text.split(",")])
    return load_examples(text).inputs[:2]


def _trajectory(
    source: Path | None, start: Path | None, end: Path | None, steps: int | None
) -> Trajectory:
    if source is not None and start is None and end is None:
        recorded = Trajectory.open(source)
        return recorded if steps is None else recorded.thinned(steps)
    if source is None and start is not None and end is not None:
        return Trajectory.linear(start, end, 10 if steps is None else steps)
    raise SettingsError("give either --source, or both --start and --end")


def _reporting(
    data: Labelled, test: str | None, hold_out: float, seed: int
) -> tuple[Labelled, Labelled]:
    """Labels to work with, and labels to report on."""
    if test is not None:
        return data, load_examples(test)
    return data.split(hold_out, seed)


def _show(found: Comparison, folder: Path) -> None:
    table = Table("", "accuracy", "NLL (nats)", title=f"{found.labels} labels")
    for name, entry in found.entries.items():
        table.add_row(name, f"{entry.accuracy:.1%}", f"{entry.nll:.3f}")
    out.print(table)
    out.print(found.verdict, markup=False, highlight=False)
    out.print(f"weights: {folder / 'params.safetensors'}", markup=False, highlight=False)
    out.print(f"report:  {folder / 'report.html'}", markup=False, highlight=False)
