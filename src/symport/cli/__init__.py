"""The command line."""

from symport.cli._app import main
from symport.cli._console import DEBUG_HELP, console, run_app

__all__ = ["DEBUG_HELP", "console", "main", "run_app"]
