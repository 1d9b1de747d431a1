"""The command `symport transfer`.

What a command works with is imported where it is used, so that help answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from symport.cli._console import INTERRUPTED, stderr, stdout
from symport.cli._options import (
    Assignments,
    Config,
    End,
    Examples,
    Method,
    Model,
    Out,
    PrintConfig,
    Source,
    Start,
    StepsOfSource,
    Target,
    Test,
)
from symport.errors import SettingsError
from symport.settings import TransferSettings, checked, explain_settings, gathered

if TYPE_CHECKING:
    from symport.selection import CompareSettings, Comparison
    from symport.trajectory import Trajectory

TRANSFER_EXAMPLE = (
    "Example: symport transfer --model nets:mlp --start a0.safetensors --end a.safetensors "
    "--target b0.safetensors --examples few.npz --test test.npz --out runs/b"
)


def transfer_command(
    *,
    model: Model = None,
    source: Source = None,
    start: Start = None,
    end: End = None,
    target: Target = None,
    examples: Examples = None,
    test: Test = None,
    out: Out = None,
    method: Method = None,
    steps: StepsOfSource = None,
    config: Config = None,
    assignments: Assignments = None,
    print_config: PrintConfig = False,
) -> None:
    """Transfer a source's training to a new initialization, and compare it with baselines.

    Writes params.safetensors (the selected weights), report.html, result.json, history.jsonl and
    permutation.safetensors. After an interruption the same command goes on.
    """
    flags = {"model": model, "source": source, "start": start, "end": end, "target": target,
             "examples": examples, "test": test, "out": out, "method": method,
             "steps": steps}  # fmt: skip
    given = gathered(TransferSettings, config, flags, assignments or [])
    if print_config:
        stdout.print(explain_settings(TransferSettings, given), end="")
        return
    settings = checked(TransferSettings, given)
    _refuse_unused(settings)
    found = _run(settings)
    _show(found, settings.out)


def _run(settings: TransferSettings) -> "Comparison":
    from symport.io import load_tensors, locked
    from symport.methods import refuse_foreign
    from symport.references import load_examples, load_loss, load_model
    from symport.selection import Case, check_examples, compare
    from symport.spec import PermutationSpec
    from symport.symmetry import discover

    rules, folder = _rules(settings), settings.out
    refuse_foreign(folder)
    net, loss = load_model(settings.model), load_loss(settings.loss)
    weights, trajectory = load_tensors(settings.target), _trajectory(settings)
    labelled = load_examples(settings.examples, like=weights)
    if settings.test is None:
        labelled, reporting = labelled.split(settings.held_out, settings.seed)
    else:
        reporting = load_examples(settings.test, like=weights)
    sets = {settings.examples: labelled, settings.test or settings.examples: reporting}
    check_examples(net, weights, sets)
    with locked(folder):
        spec = settings.spec
        symmetry = PermutationSpec.load(spec) if spec else discover(net, labelled.inputs[:2])
        case = Case(net, loss, trajectory, weights, symmetry, labelled)
        try:
            return compare(case, reporting, rules, folder=folder, progress=True)
        except KeyboardInterrupt:
            stderr.print("stopped; the same command goes on after the last finished step")
            raise typer.Exit(INTERRUPTED) from None


def _method(settings: TransferSettings) -> str:
    return "fgmt" if settings.method == "auto" else settings.method  # there are always examples


def _rules(settings: TransferSettings) -> "CompareSettings":
    from symport.selection import CompareSettings

    return CompareSettings(
        method=_method(settings),
        batch_size=settings.batch_size,
        folds=settings.folds,
        lengths=settings.scales,
        direct_steps=settings.direct_steps,
        direct_lr=settings.learning_rates[0],
        seed=settings.seed,
    )


def _refuse_unused(settings: TransferSettings) -> None:
    """Raise SettingsError if a setting that was given would change nothing."""
    from symport.methods import takes

    fields = TransferSettings.model_fields
    if settings.test is not None and settings.held_out != fields["held_out"].default:
        raise SettingsError("held_out has no effect beside --test; leave one of them out")
    has_gradients = takes(_method(settings), "gradient") or settings.direct_steps
    if settings.loss != fields["loss"].default and not has_gradients:
        raise SettingsError(
            f"loss has no effect with --method {settings.method} and direct_steps=0, which take no "
            "gradients; leave it out"
        )


def _trajectory(settings: TransferSettings) -> "Trajectory":
    from symport.trajectory import Trajectory

    source, ends, steps = settings.source, (settings.start, settings.end), settings.steps
    if source is not None and ends == (None, None):
        recorded = Trajectory.open(source)
        return recorded if steps is None else recorded.thinned(steps)
    if source is None and settings.start is not None and settings.end is not None:
        return Trajectory.linear(settings.start, settings.end, 10 if steps is None else steps)
    raise SettingsError("the source is either a folder, --source, or both --start and --end")


def _show(found: "Comparison", folder: Path) -> None:
    from rich.table import Table

    from symport.report import write_comparison

    table = Table("", "accuracy", "NLL (nats)", title=f"{found.labels} labels")
    for name, entry in found.entries.items():
        table.add_row(name, f"{entry.accuracy:.1%}", f"{entry.nll:.3f}")
    stdout.print(table)
    stdout.print(found.verdict)
    stdout.print(f"weights: {folder / 'params.safetensors'}")
    try:
        write_comparison(folder / "report.html", found)
    except SettingsError as error:  # the extra is not installed; all else is there
        stderr.print(f"no report: {error}")
    else:
        stdout.print(f"report:  {folder / 'report.html'}")
