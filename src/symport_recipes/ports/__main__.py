"""Port between transformers trained here: `python -m symport_recipes.ports --out docs/results`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from symport.huggingface import quiet_transformers
from symport.io import write_text
from symport.report import save_picture
from symport_recipes.ports._bert import bert
from symport_recipes.ports._llama import llama
from symport_recipes.ports._options import FILE, table
from symport_recipes.ports._page import TITLES, page, picture
from symport_recipes.ports._running import Found, run_one
from symport_recipes.ports._settings import COUNTS, RULES, SEEDS
from symport_recipes.ports._vit import vit
from symport_recipes.ports._words import NOTE, head

FAMILIES = {"llama": llama, "bert": bert, "vit": vit}


def main() -> None:
    """Run what has not been run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--cache", type=Path, default=Path("runs/ports"))
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of draws")
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    given = parser.parse_args()
    folder = given.out / "ports"
    with quiet_transformers():
        for family in [] if given.page_only else given.families:
            run_family(family, given.cache, folder, given.seeds)
    found = [f for name in TITLES for f in read(folder / f"{name}.json")]
    save_picture(given.out / "ports.png", picture(found))
    options = folder / FILE
    ending = [*NOTE, *table(json.loads(options.read_text()))] if options.exists() else []
    write_text(given.out / "ports.md", page(found, head({f.scene for f in found}), ending))


def run_family(family: str, cache: Path, folder: Path, seeds: int = SEEDS) -> None:
    """Run all scenes of a family; a run that is in the file is not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = FAMILIES[family](cache)
    for seed in range(seeds):
        for name, scene in scenes.items():
            for target, count in product(scene.targets, COUNTS):
                path = folder / f"{name}.json"
                found = read(path)
                if not any((f.target, f.count, f.seed) == (target, count, seed) for f in found):
                    rules = RULES.model_copy(update={"seed": seed})
                    write(path, [*found, run_one(name, scene, target, rules, count)])


def read(path: Path) -> list[Found]:
    """The runs in a file; none if there is no file."""
    return [Found(**row) for row in json.loads(path.read_text())] if path.exists() else []


def write(path: Path, found: Sequence[Found]) -> None:
    """Write runs to a file."""
    write_text(path, json.dumps([asdict(f) for f in found], indent=1))


if __name__ == "__main__":
    main()
