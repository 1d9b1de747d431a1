"""Ports between transformers trained here as experiments, one for each family of networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from symport.huggingface import quiet_transformers
from symport_recipes.ports._bert import bert
from symport_recipes.ports._llama import llama
from symport_recipes.ports._page import write_ports
from symport_recipes.ports._running import Found, run_one
from symport_recipes.ports._scene import Scene
from symport_recipes.ports._settings import COUNTS, RULES, SEEDS
from symport_recipes.ports._vit import vit
from symport_recipes.runner import RowExperiment
from symport_recipes.setups import Bench

FAMILIES: Mapping[str, Callable[[Path], Mapping[str, Scene]]] = {
    "llama": llama,
    "bert": bert,
    "vit": vit,
}
SCENES = {"llama": ("llama", "llama-lora"), "bert": ("bert",), "vit": ("vit",)}
TARGETS = ("independent", "continued")


@dataclass(frozen=True)
class Ports(RowExperiment[Found]):
    """Every way of porting, for every scene of a family; a seed draws the examples.

    Attributes:
        family: `llama`, `bert` or `vit`.
    """

    family: str
    seeds = SEEDS
    kind = Found
    key = ("scene", "target", "count", "seed")

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[Any, ...]]:
        """Every scene, new base and number of examples, seed by seed."""
        names = SCENES[self.family]
        found = product(seeds, names, TARGETS, COUNTS)
        return [(name, target, count, seed) for seed, name, target, count in found]

    def measure(self, case: tuple[Any, ...], bench: Bench) -> Found:
        """Train what is not in the cache, and port."""
        name, target, count, seed = case
        with quiet_transformers():
            scene = scenes(self.family, bench.folder("transformers"))[name]
            rules = RULES.model_copy(update={"seed": seed})
            return run_one(name, scene, target, rules, count)

    def path(self, folder: Path, case: tuple[Any, ...]) -> Path:
        """A file for each scene."""
        return folder / "ports" / f"{case[0]}.json"

    def publish(self, folder: Path) -> Sequence[Path]:
        """Write `ports.md` and `ports.png`, with the scenes of all families that are there."""
        every = (name for names in SCENES.values() for name in names)
        found = [f for name in every for f in self.records(self.path(folder, (name,)))]
        return write_ports(folder, found)


@cache
def scenes(family: str, folder: Path) -> Mapping[str, Scene]:
    """The scenes of a family, trained once."""
    return FAMILIES[family](folder)
