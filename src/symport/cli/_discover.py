"""The command `symport discover`.

What a command works with is imported where it is used, so that help answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symport.cli._console import stderr, stdout
from symport.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from symport.spec import PermutationSpec

DISCOVER_EXAMPLES = (
    "Examples: symport discover --model nets:cnn --inputs 1,3,32,32 --reasons; "
    "symport discover --model llama/config.json --picture groups.png"
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
            "examples as a .safetensors or .npz file or module:function. Models of transformers "
            "need none."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the spec to this JSON file, for symport transfer --set spec=FILE."
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a picture of the groups to this PNG file.")
    ] = None,
    moving: Annotated[
        list[str] | None,
        typer.Option(
            help="A buffer that differs between networks and moves with their units, such as those "
            "of a frozen or spectral norm. Repeat the flag for several."
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            help="An output of a model of transformers that must not change, such as logits. "
            "Repeat the flag for several; without it no output may change."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a group fails its proof.")
    ] = False,
    reasons: Annotated[
        bool,
        typer.Option(
            "--reasons", help="Print why each fixed axis is fixed, and what ties each group."
        ),
    ] = False,
) -> None:
    """Find and prove which axes of a network can be permuted together.

    Prints one pattern for each tensor: a word names units that move together, a dot a fixed axis.
    """
    spec = _discovered(model, inputs, moving or [], outputs or [], strict=strict)
    stdout.print(str(spec))
    if reasons:
        for name, why in spec.reasons.items():
            for axis, reason in why.items():
                stdout.print(f"{name}, axis {axis} is fixed: {reason}")
        for name, operations in spec.ties.items():
            stdout.print(f"{name} moves as one because of {operations}")
    elif not spec.groups:
        stderr.print("no axis can be permuted; --reasons prints why")
    if save is not None:
        spec.save(save)
    if picture is not None:
        from symport.report import draw_spec, png, save_picture

        save_picture(picture, png(draw_spec(spec)))


def _discovered(
    model: str, inputs: str | None, moving: list[str], outputs: list[str], *, strict: bool
) -> "PermutationSpec":
    from symport.huggingface import chosen_outputs, is_config, load_architecture
    from symport.references import load_model
    from symport.symmetry import discover

    if is_config(model):
        if strict:
            raise SettingsError(
                f"--strict needs weights to prove the groups, and {model} is read without them; "
                "leave --strict out, or give module:function that loads the weights"
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
            stderr.print(f"no output may change: {names}; --outputs NAME restricts this to NAME")
        stderr.print(
            "found without weights, so not proven; with weights, discover proves every group"
        )
        return spec
    if outputs:
        raise SettingsError(
            f"--outputs is for models of transformers only; leave it out for {model}"
        )
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
