"""The command `symport transfer`.

What a command works with is imported where it is used, so that help answers at once.
"""

from typing import TYPE_CHECKING, Any

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
    from symport.selection import Outcome
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
    permutation.safetensors. After an interruption, the same command continues.
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
    _show(found, settings)


def _run(settings: TransferSettings) -> "Outcome":
    from symport.io import load_tensors, locked
    from symport.methods import refuse_foreign
    from symport.references import load_examples, load_losses, load_model
    from symport.selection import check_examples, classification_problem, select_into
    from symport.spec import PermutationSpec
    from symport.symmetry import discover

    folder = settings.out
    refuse_foreign(folder)
    net, losses = load_model(settings.model), load_losses(settings.loss)
    weights, trajectory = load_tensors(settings.target), _trajectory(settings)
    training = load_examples(settings.examples, like=weights)
    if settings.test is None:
        training, held_out = training.split(settings.held_out, settings.seed)
    else:
        held_out = load_examples(settings.test, like=weights)
    sets = {settings.examples: training, settings.test or settings.examples: held_out}
    check_examples(net, weights, sets)
    with locked(folder):
        spec = settings.spec
        symmetry = PermutationSpec.load(spec) if spec else discover(net, training.inputs[:2])
        problem = classification_problem(
            net,
            losses,
            trajectory,
            weights,
            symmetry,
            (training, held_out),
            batch_size=settings.micro_batch,
        )
        try:
            return select_into(folder, problem, settings, run=_identity(settings), progress=True)
        except KeyboardInterrupt:
            stderr.print("stopped; the same command continues after the last finished step")
            raise typer.Exit(INTERRUPTED) from None


def _identity(settings: TransferSettings) -> dict[str, Any]:
    """What distinguishes this run from others; files are compared by their contents instead."""
    files = {"source", "start", "end", "target", "test", "out", "spec"}
    return {"settings": settings.model_dump(mode="json", exclude=files)}


def _refuse_unused(settings: TransferSettings) -> None:
    """Raise SettingsError if a setting that was given would change nothing."""
    fields = TransferSettings.model_fields
    if settings.test is not None and settings.held_out != fields["held_out"].default:
        raise SettingsError("held_out has no effect with --test; leave one of them out")


def _trajectory(settings: TransferSettings) -> "Trajectory":
    from symport.trajectory import Trajectory

    source, ends, steps = settings.source, (settings.start, settings.end), settings.steps
    if source is not None and ends == (None, None):
        recorded = Trajectory.open(source)
        return recorded if steps is None else recorded.thinned(steps)
    if source is None and settings.start is not None and settings.end is not None:
        return Trajectory.linear(settings.start, settings.end, 10 if steps is None else steps)
    raise SettingsError(
        "give the source either as a folder, --source, or by both --start and --end"
    )


def _show(found: "Outcome", settings: TransferSettings) -> None:
    from rich.table import Table

    from symport.report import write_outcome
    from symport.selection import header, rows_of, verdict

    folder, sentences = settings.out, verdict(found, settings.seed)
    names = header(is_own_loss=":" in settings.loss)
    table = Table(*names, title=f"{found.training_examples} examples")
    for row in rows_of(found, settings.seed):
        table.add_row(*row.cells)
    stdout.print(table)
    stdout.print("\n".join(sentences))
    stdout.print(f"weights: {folder / 'params.safetensors'}")
    title = f"Transfer with {found.training_examples} examples"
    try:
        write_outcome(folder / "report.html", title, sentences, found, names, settings.seed)
    except SettingsError as error:  # the extra is not installed; all else is there
        stderr.print(f"no report: {error}")
    else:
        stdout.print(f"report:  {folder / 'report.html'}")
