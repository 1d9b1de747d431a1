"""The commands `symport port` and `symport check`: their flags are the settings' own keys.

What a command works with is imported where it is used, so that help answers at once.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console

from symport.errors import SettingsError
from symport.port import PortSettings, make_settings
from symport.settings import read_settings, show_settings

if TYPE_CHECKING:
    from symport.port import Ported

CHECKED = ("old_base", "tuned", "new_base", "examples", "unlabelled", "task", "max_length",
           "method", "steps", "folds", "accept", "device", "dtype")  # fmt: skip
FILES = ("old_base", "tuned", "new_base", "out", "examples", "unlabelled", "task", "loss")


def add_commands(app: typer.Typer, out: Console, err: Console) -> None:
    """Add both commands to the command line.

    Args:
        app: What to add them to.
        out: Where results are printed.
        err: Where everything else is printed.
    """

    def port_command(*, no_direct: bool, print_config: bool, **flags: Any) -> None:
        """Put a fine-tune of the old base on the new base, and say what it is worth.

        Writes a folder that `from_pretrained` loads (or a PEFT adapter), with README.md,
        report.html and result.json. After an interruption the same command goes on.
        """
        given = _given(flags) | ({"direct_steps": 0} if no_direct else {})
        settings = make_settings(given)
        if print_config:
            out.print(show_settings(settings), end="")
            return
        from symport.distributed import join, leave, rank
        from symport.port import port

        join()  # does nothing without torchrun
        try:
            found = port(settings, progress=True)
        except KeyboardInterrupt:
            err.print("stopped; the same command goes on after the last finished step")
            raise typer.Exit(130) from None
        if rank() == 0:
            _show(found, settings, out)
        leave()

    def check_command(**flags: Any) -> None:
        """Is a port worth trying, how, and what will it cost? Needs no labels."""
        from rich.table import Table

        from symport.port import check

        found = check(make_settings({"out": "unused", **_given(flags)}))
        table = Table(show_header=False)
        for name, value in found.numbers().items():
            table.add_row(name, value)
        out.print(table)
        out.print("\n".join(found.verdict))

    extra = {
        "no_direct": (bool, False, "Leave direct training out."),
        "print_config": (bool, False, "Print all settings as YAML, and do nothing."),
    }
    port_command.__signature__ = _signature(PortSettings.model_fields, extra)  # type: ignore[attr-defined]
    chosen = {name: PortSettings.model_fields[name] for name in CHECKED}
    check_command.__signature__ = _signature(chosen, {})  # type: ignore[attr-defined]
    example = (
        "Example: symport port --old-base A --tuned A-tuned --new-base B --examples train.jsonl "
        "--out B-tuned"
    )
    app.command("port", epilog=example)(port_command)
    app.command("check", epilog=example.replace("port --old", "check --old").split(" --out")[0])(
        check_command
    )


def _signature(
    fields: Mapping[str, FieldInfo], extra: Mapping[str, tuple[type, Any, str]]
) -> inspect.Signature:
    """One flag for each setting, as text that the settings themselves check."""
    flags = {name: (_kind(field), None, _help(field)) for name, field in fields.items()}
    flags["config"] = (Path | None, None, "A YAML file of the same settings; flags override it.")
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[
                    kind,
                    typer.Option(
                        f"--{name.replace('_', '-')}", help=text, rich_help_panel=_panel(name)
                    ),
                ],
            )
            for name, (kind, default, text) in {**flags, **extra}.items()
        ]
    )


def _kind(field: FieldInfo) -> Any:
    """Words are given one by one, numbers in a list."""
    return list[str] | None if field.annotation == tuple[str, ...] else str | None


def _help(field: FieldInfo) -> str:
    text, default = str(field.description), field.default
    if get_origin(field.annotation) is Literal:
        text = f"{text} One of {', '.join(map(str, get_args(field.annotation)))}."
    if field.is_required() or default is None or default == ():
        return text
    if default == ():
        return text
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{text} [default: {shown}]"


def _panel(name: str) -> str | None:
    if name in ("config", "print_config"):
        return "Settings"
    return "Files" if name in FILES else "How"


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the YAML file says, overridden by what was typed."""
    path = flags.get("config")
    given = {} if path is None else read_settings(path)
    typed = {k: v for k, v in flags.items() if v not in (None, []) and k != "config"}
    return given | {name: _value(name, text) for name, text in typed.items()}


def _value(name: str, text: Any) -> Any:
    """Several numbers are separated by commas."""
    if (
        not isinstance(text, str)
        or get_origin(PortSettings.model_fields[name].annotation) is not tuple
    ):
        return text
    parts: list[str] = [part.strip() for part in text.split(",") if part.strip()]
    if not parts and text.strip():
        raise SettingsError(f"{name}: {text!r} is not a list such as 0.5,1,2")
    return parts


def _show(found: "Ported", settings: PortSettings, out: Console) -> None:
    from rich.table import Table

    from symport.port import cells, header, rows_of

    if found.outcome is not None:
        table = Table(*header(settings))
        for row in rows_of(found.outcome, settings.seed):
            table.add_row(*cells(row))
        out.print(table)
    out.print("\n".join(found.verdict))
    out.print(f"written to {found.folder}")
