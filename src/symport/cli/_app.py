"""The command line: parse, call one function of the library, print or save.

What a command works with is imported where it is used, so that help answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symport.cli._console import DEBUG_HELP, console, run_app
from symport.cli._port import add_commands
from symport.errors import SettingsError
from symport.settings import LOSS_NAMES, METHODS

if TYPE_CHECKING:
    from torch import Tensor

    from symport.selection import CompareSettings, Comparison
    from symport.spec import PermutationSpec
    from symport.trajectory import Trajectory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Carry a training run over to another network, without training it.",
    epilog=DEBUG_HELP,
)
out, err = console(), console(stderr=True)

HOLD_OUT = 0.2
SOURCE, EXAMPLES, HOW = "The source", "The labelled examples", "How"
Model = Annotated[
    str,
    typer.Option(
        help="A function that makes the network, as module:function, e.g. nets:mlp; or "
        "torchvision:NAME or timm:NAME where installed."
    ),
]


@app.command(
    "discover",
    epilog="Examples: symport discover --model nets:cnn --inputs 1,3,32,32 --reasons; "
    "symport discover --model llama/config.json --picture groups.png",
)
def discover_command(
    model: Annotated[
        str,
        typer.Option(
            help="A function that makes the network, as module:function, e.g. nets:mlp; "
            "torchvision:NAME or timm:NAME where installed; or a model folder of transformers, or "
            "its config.json (its weights are not read)."
        ),
    ],
    inputs: Annotated[
        str | None,
        typer.Option(
            help="Example inputs: their shape with the batch first, such as 1,3,32,32, or labelled "
            "examples as a .safetensors or .npz file or module:function. Made up for transformers."
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the spec to this JSON file, for --spec.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw which tensors move together, to this PNG file.")
    ] = None,
    moving: Annotated[
        list[str] | None,
        typer.Option(
            help="A buffer that differs between networks and moves with their units, such as those "
            "of a frozen or spectral norm. Give it once for each."
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            help="An output of a model of transformers that must stay as it is, such as logits. "
            "Give it once for each; all of them without."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a group fails its proof.")
    ] = False,
    reasons: Annotated[
        bool,
        typer.Option(
            "--reasons", help="Say why each axis that stays does so, and what ties each group."
        ),
    ] = False,
) -> None:
    """Find and prove which axes of a network can be permuted together.

    Prints one pattern for each tensor: a word names units that move together, a dot stays.
    """
    spec = _discovered(model, inputs, moving or [], outputs or [], strict=strict)
    out.print(str(spec))
    if reasons:
        for name, why in spec.reasons.items():
            for axis, reason in why.items():
                out.print(f"{name}, axis {axis} stays: {reason}")
        for name, operations in spec.ties.items():
            out.print(f"{name} moves as one because of {operations}")
    elif not spec.groups:
        err.print("no unit can change its place; --reasons says why")
    if save is not None:
        spec.save(save)
    if picture is not None:
        from symport.report import draw_spec, png, save_picture

        save_picture(picture, png(draw_spec(spec)))


@app.command(
    "transfer",
    epilog="Example: symport transfer --model nets:mlp --start a0.safetensors --end a.safetensors "
    "--target b0.safetensors --data few.npz --test test.npz --out runs/b",
)
def transfer_command(
    model: Model,
    target: Annotated[
        Path,
        typer.Option(help="The target initialization: a .safetensors file, or a .pt state dict."),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Those at hand, which match, choose and train: a .safetensors or .npz file with "
            "'inputs' and 'labels' (classes from 0), or module:function returning both. "
            "Floating-point inputs take the dtype of the weights.",
            rich_help_panel=EXAMPLES,
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option("--out", help="A folder for the results; a run begun there goes on."),
    ],
    source: Annotated[
        Path | None,
        typer.Option(help="A folder of step files, as recorded.", rich_help_panel=SOURCE),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Or: its initialization …", rich_help_panel=SOURCE)
    ] = None,
    end: Annotated[
        Path | None, typer.Option(help="… and its trained weights.", rich_help_panel=SOURCE)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Length T. Without it 10 between two ends, or all recorded steps.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Those that only report, given as --data.", rich_help_panel=EXAMPLES),
    ] = None,
    hold_out: Annotated[
        float,
        typer.Option(
            help="Without --test: the share of --data that only reports.", rich_help_panel=EXAMPLES
        ),
    ] = HOLD_OUT,
    method: Annotated[
        str, typer.Option(help=f"{', '.join(METHODS)}, or module:Class.", rich_help_panel=HOW)
    ] = "fgmt",
    loss: Annotated[
        str, typer.Option(help=f"{', '.join(LOSS_NAMES)}, or module:function.", rich_help_panel=HOW)
    ] = LOSS_NAMES[0],
    spec: Annotated[
        Path | None,
        typer.Option(help="A spec file; otherwise the symmetry is found.", rich_help_panel=HOW),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Examples in a gradient.", rich_help_panel=HOW)
    ] = 256,
    folds: Annotated[
        int,
        typer.Option(
            help="Of the cross-validation that chooses step and length; 0 takes the last step.",
            rich_help_panel=HOW,
        ),
    ] = 5,
    direct_steps: Annotated[
        int,
        typer.Option(
            help="Steps of direct training to compare with; 0 for none.", rich_help_panel=HOW
        ),
    ] = 500,
    seed: Annotated[
        int,
        typer.Option(help="Of splits, folds and batches.", rich_help_panel=HOW),
    ] = 0,
) -> None:
    """Transfer a source's training to a target, and say whether it was worth it.

    Writes params.safetensors (the weights chosen), report.html, result.json, history.jsonl and
    permutation.safetensors. After an interruption the same command goes on.
    """
    from symport.io import load_tensors, locked
    from symport.methods import refuse_foreign
    from symport.references import load_examples, load_loss, load_model
    from symport.selection import Case, CompareSettings, check_examples, compare
    from symport.spec import PermutationSpec
    from symport.symmetry import discover

    settings = CompareSettings(
        method=method, batch_size=batch_size, folds=folds, direct_steps=direct_steps, seed=seed
    )
    _refuse_idle(settings, loss, hold_out if test else HOLD_OUT)
    refuse_foreign(folder)
    net, function, weights = load_model(model), load_loss(loss), load_tensors(target)
    trajectory = _trajectory(source, start, end, steps)
    labelled = load_examples(data, like=weights)
    if test is None:
        labelled, reporting = labelled.split(hold_out, seed)
    else:
        reporting = load_examples(test, like=weights)
    check_examples(net, weights, {data: labelled, test or data: reporting})
    with locked(folder):
        symmetry = PermutationSpec.load(spec) if spec else discover(net, labelled.inputs[:2])
        case = Case(net, function, trajectory, weights, symmetry, labelled)
        try:
            found = compare(case, reporting, settings, folder=folder, progress=True)
        except KeyboardInterrupt:
            err.print("stopped; the same command goes on after the last finished step")
            raise typer.Exit(130) from None
        _show(found, folder)


add_commands(app, out, err)


def main() -> None:
    """Run the command line; an error becomes one line and exit code 1."""
    run_app(app)


def _refuse_idle(settings: "CompareSettings", loss: str, hold_out: float) -> None:
    """Raise SettingsError if something was asked for that would change nothing."""
    if hold_out != HOLD_OUT:
        raise SettingsError("--hold-out has no effect beside --test; leave one of them out")
    from symport.methods import takes

    has_gradients = takes(settings.method, "gradient") or settings.direct_steps
    if loss != LOSS_NAMES[0] and not has_gradients:
        raise SettingsError(
            f"--loss has no effect with --method {settings.method} and --direct-steps 0, which "
            "take no gradients; leave it out"
        )


def _discovered(
    model: str, inputs: str | None, moving: list[str], outputs: list[str], *, strict: bool
) -> "PermutationSpec":
    from symport.huggingface import chosen_outputs, is_config, load_architecture
    from symport.references import load_model
    from symport.symmetry import discover

    if is_config(model):
        if strict:
            raise SettingsError(
                f"--strict fails where a group is not proven, and {model} is read without weights, "
                "so that none is; leave it out, or give module:function that loads the weights"
            )
        given = None if inputs is None else _example(inputs)
        found = load_architecture(
            model, given if isinstance(given, dict) else {} if inputs else None
        )
        example = found.inputs or given
        choose, kept = chosen_outputs(outputs) if outputs else found.select, list[str]()

        def select(output: Any) -> Any:
            chosen = choose(output)
            kept[:] = chosen if isinstance(chosen, dict) else []
            return chosen

        spec = discover(found.model, example, select=select, moving=[*found.moving, *moving])
        if len(kept) > 1 and not outputs:
            names = ", ".join(kept)
            err.print(f"all outputs stay as they are: {names}; --outputs NAME keeps only that one")
        err.print("found without weights, so not proven; with weights, discover proves every group")
        return spec
    if outputs:
        raise SettingsError(f"--outputs names outputs of transformers, which {model} is not of")
    if inputs is None:
        raise SettingsError("give example inputs, such as --inputs 1,3,32,32")
    return discover(load_model(model), _example(inputs), strict=strict, moving=moving)


def _example(text: str) -> "Tensor | dict[str, Tensor]":
    """Zeros of a shape, the first two of some examples, or arguments by name."""
    import torch

    from symport.references import load_example

    sizes = [part.strip() for part in text.split(",")]
    if all(size.isdecimal() and int(size) > 0 for size in sizes):
        return torch.zeros([int(size) for size in sizes])
    if ":" not in text and Path(text).suffix not in (".safetensors", ".npz"):
        raise SettingsError(
            f"{text!r} is neither a shape such as 1,3,32,32, nor a .safetensors or .npz file, nor "
            "module:function"
        )
    return load_example(text)


def _trajectory(
    source: Path | None, start: Path | None, end: Path | None, steps: int | None
) -> "Trajectory":
    from symport.trajectory import Trajectory

    if source is not None and start is None and end is None:
        recorded = Trajectory.open(source)
        return recorded if steps is None else recorded.thinned(steps)
    if source is None and start is not None and end is not None:
        return Trajectory.linear(start, end, 10 if steps is None else steps)
    raise SettingsError("the source is either a folder, --source, or both --start and --end")


def _show(found: "Comparison", folder: Path) -> None:
    from rich.table import Table

    from symport.report import write_comparison

    table = Table("", "accuracy", "NLL (nats)", title=f"{found.labels} labels")
    for name, entry in found.entries.items():
        table.add_row(name, f"{entry.accuracy:.1%}", f"{entry.nll:.3f}")
    out.print(table)
    out.print(found.verdict)
    out.print(f"weights: {folder / 'params.safetensors'}")
    try:
        write_comparison(folder / "report.html", found)
    except SettingsError as error:  # the extra is not installed; all else is there
        err.print(f"no report: {error}")
    else:
        out.print(f"report:  {folder / 'report.html'}")
