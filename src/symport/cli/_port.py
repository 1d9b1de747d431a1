"""The commands `symport port` and `symport check`.

What a command works with is imported where it is used, so that help answers at once.
"""

from typing import TYPE_CHECKING

import typer

from symport.cli._console import INTERRUPTED, stderr, stdout
from symport.cli._options import (
    Assignments,
    Config,
    Device,
    Examples,
    Method,
    NewBase,
    OldBase,
    Out,
    PrintConfig,
    Steps,
    Tuned,
    Unlabelled,
)
from symport.port import PortSettings, make_settings
from symport.settings import explain_settings, gathered

if TYPE_CHECKING:
    from symport.port import Ported

PORT_EXAMPLE = (
    "Example: symport port --old-base A --tuned A-tuned --new-base B --examples train.jsonl "
    "--out B-tuned"
)
CHECK_EXAMPLE = (
    "Example: symport check --old-base A --tuned A-tuned --new-base B --examples train.jsonl"
)


def port_command(
    *,
    old_base: OldBase = None,
    tuned: Tuned = None,
    new_base: NewBase = None,
    examples: Examples = None,
    unlabelled: Unlabelled = None,
    out: Out = None,
    method: Method = None,
    steps: Steps = None,
    device: Device = None,
    config: Config = None,
    assignments: Assignments = None,
    print_config: PrintConfig = False,
) -> None:
    """Put a fine-tune of the old base on the new base, and report what it gains there.

    Writes a folder that `from_pretrained` loads (or a PEFT adapter), with README.md, report.html
    and result.json. After an interruption, the same command continues.
    """
    flags = {"old_base": old_base, "tuned": tuned, "new_base": new_base, "examples": examples,
             "unlabelled": unlabelled, "out": out, "method": method, "steps": steps,
             "device": device}  # fmt: skip
    given = gathered(PortSettings, config, flags, assignments or [])
    if print_config:
        stdout.print(explain_settings(PortSettings, given), end="")
        return
    settings = make_settings(given)
    from symport.distributed import join, leave, rank
    from symport.port import port_fine_tune

    join()  # does nothing without torchrun
    try:
        found = port_fine_tune(settings, progress=True)
    except KeyboardInterrupt:
        stderr.print("stopped; the same command continues after the last finished step")
        raise typer.Exit(INTERRUPTED) from None
    if rank() == 0:
        _show(found, settings)
    leave()


def check_command(
    *,
    old_base: OldBase = None,
    tuned: Tuned = None,
    new_base: NewBase = None,
    examples: Examples = None,
    unlabelled: Unlabelled = None,
    method: Method = None,
    steps: Steps = None,
    device: Device = None,
    config: Config = None,
    assignments: Assignments = None,
    print_config: PrintConfig = False,
) -> None:
    """Estimate whether a port will succeed, with which method, and what it will cost.

    Reads the models without running a port; needs no labels. Settings are those of `symport port`.
    """
    flags = {"old_base": old_base, "tuned": tuned, "new_base": new_base, "examples": examples,
             "unlabelled": unlabelled, "method": method, "steps": steps,
             "device": device}  # fmt: skip
    given = {"out": "unused", **gathered(PortSettings, config, flags, assignments or [])}
    if print_config:
        stdout.print(explain_settings(PortSettings, given), end="")
        return
    settings = make_settings(given)
    from rich.table import Table

    from symport.port import check_port

    found = check_port(settings)
    table = Table(show_header=False)
    for name, value in found.numbers().items():
        table.add_row(name, value)
    stdout.print(table)
    stdout.print("\n".join(found.verdict))


def _show(found: "Ported", settings: PortSettings) -> None:
    from rich.table import Table

    from symport.selection import header, rows_of

    if found.outcome is not None:
        table = Table(*header(is_own_loss=settings.loss is not None))
        for row in rows_of(found.outcome, settings.seed):
            table.add_row(*row.cells)
        stdout.print(table)
    stdout.print("\n".join(found.verdict))
    stdout.print(f"written to {found.folder}")
