"""The flags of the commands, each described by the schema whose key it sets.

A flag that several commands have is written once, here. Keys without a flag are set with `--set`.
"""

from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

import typer
from pydantic import BaseModel

from symport.port import PortSettings
from symport.settings import TransferSettings, meaning

FILES, SELECTION, SETTINGS = "Files", "Selection", "Settings"


def option(kind: type[BaseModel], key: str, *, panel: str = FILES, default: str = "") -> Any:
    """The flag that sets a key: its help is the schema's, its value text that the schema checks.

    Args:
        kind: The schema.
        key: One of its keys.
        panel: Where the help shows it.
        default: What the help says where the schema's default is None.
    """
    field = kind.model_fields[key]
    text = meaning(kind, key)
    if not field.is_required() and (field.default is not None or default):
        text += f" [default: {default or field.default}]"
    if field.is_required():
        text += " [required]"
    kinds = {field.annotation, *get_args(field.annotation)}
    metavar = "<int>" if int in kinds else "<path>" if Path in kinds else None
    flag = f"--{key.replace('_', '-')}"
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=panel)


Out: TypeAlias = Annotated[str | None, option(PortSettings, "out")]
Examples: TypeAlias = Annotated[str | None, option(PortSettings, "examples")]
OldBase: TypeAlias = Annotated[str | None, option(PortSettings, "old_base")]
Tuned: TypeAlias = Annotated[str | None, option(PortSettings, "tuned")]
NewBase: TypeAlias = Annotated[str | None, option(PortSettings, "new_base")]
Unlabelled: TypeAlias = Annotated[str | None, option(PortSettings, "unlabelled")]
Model: TypeAlias = Annotated[str | None, option(TransferSettings, "model")]
Target: TypeAlias = Annotated[str | None, option(TransferSettings, "target")]
Source: TypeAlias = Annotated[str | None, option(TransferSettings, "source")]
Start: TypeAlias = Annotated[str | None, option(TransferSettings, "start")]
End: TypeAlias = Annotated[str | None, option(TransferSettings, "end")]
Test: TypeAlias = Annotated[str | None, option(TransferSettings, "test")]
Method: TypeAlias = Annotated[str | None, option(PortSettings, "method", panel=SELECTION)]
Steps: TypeAlias = Annotated[str | None, option(PortSettings, "steps", panel=SELECTION)]
StepsOfSource: TypeAlias = Annotated[
    str | None,
    option(
        TransferSettings,
        "steps",
        panel=SELECTION,
        default="10 between two ends, or all recorded ones",
    ),
]
Device: TypeAlias = Annotated[str | None, option(PortSettings, "device", panel=SELECTION)]
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A YAML file of settings; flags override it.", rich_help_panel=SETTINGS
    ),
]
Assignments: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting that --print-config lists; repeat it for more.",
        rich_help_panel=SETTINGS,
    ),
]
PrintConfig: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--print-config",
        help="Print all settings as YAML, each with its meaning, and do nothing else.",
        rich_help_panel=SETTINGS,
    ),
]
