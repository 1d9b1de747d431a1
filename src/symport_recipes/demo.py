"""The built-in digits: `python -m symport_recipes.demo` transfers with few labels in a minute."""

import argparse
from pathlib import Path

from symport_recipes.experiments import DEMO_COLUMNS as COLUMNS
from symport_recipes.experiments import Demo, digits_table, digits_verdict
from symport_recipes.runner import run
from symport_recipes.setups import Bench
from symport_recipes.setups import digits_scene as scene

__all__ = ["main", "scene"]


def main(folder: Path = Path("runs/demo")) -> None:
    """Run, print one table, and write report, picture, page and numbers to a folder."""
    from rich.console import Console
    from rich.table import Table

    demo = Demo()
    outcomes = run(demo, folder, range(demo.seeds), Bench(), anew=True)
    written = demo.publish(folder)
    shown = Table("labels", *COLUMNS, title=f"Test accuracy in %, {demo.seeds} seed pairs")
    for row in digits_table(outcomes):
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    console.print(digits_verdict(outcomes), highlight=False)
    console.print(f"report: {written[-1]}", highlight=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    main(parser.parse_args().out)
