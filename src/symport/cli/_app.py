"""The command line: parse, call one function of the library, print or save."""

import sys

import typer

from symport.cli._console import DEBUG_HELP, run_app
from symport.cli._discover import DISCOVER_EXAMPLES, discover_command
from symport.cli._port import CHECK_EXAMPLE, PORT_EXAMPLE, check_command, port_command
from symport.cli._retired import refuse_retired
from symport.cli._transfer import TRANSFER_EXAMPLE, transfer_command
from symport.port import PortSettings
from symport.settings import TransferSettings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Carry a training run over to another network, without training it.",
    epilog=DEBUG_HELP,
)
app.command("discover", epilog=DISCOVER_EXAMPLES)(discover_command)
app.command("transfer", epilog=TRANSFER_EXAMPLE)(transfer_command)
app.command("port", epilog=PORT_EXAMPLE)(port_command)
app.command("check", epilog=CHECK_EXAMPLE)(check_command)

CONFIGURED = {  # commands whose settings have a schema
    "transfer": (transfer_command, TransferSettings),
    "port": (port_command, PortSettings),
    "check": (check_command, PortSettings),
}


def main() -> None:
    """Run `symport` on `sys.argv`.

    Raises:
        SystemExit: With 0 at the end, 1 after an error, 2 if the arguments cannot be parsed, 130
            after Ctrl-C.

    Example:
        >>> from contextlib import redirect_stderr, suppress
        >>> from unittest.mock import patch
        >>> arguments = ["symport", "discover", "--model", "nets:cnn"]
        >>> with patch("sys.argv", arguments), redirect_stderr(sys.stdout), suppress(SystemExit):
        ...     main()
        error: give example inputs, such as --inputs 1,3,32,32
    """
    run_app(_run)


def _run() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name in CONFIGURED:
        command, schema = CONFIGURED[name]
        refuse_retired(command, schema, arguments)
    app()
