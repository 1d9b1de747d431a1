"""The zoo as an experiment: the symmetry of each architecture, found and proven."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symport.io import write_text
from symport_recipes.experiments._architectures import Finding, measure
from symport_recipes.experiments._architectures_page import page
from symport_recipes.networks import ZOO
from symport_recipes.runner import RowExperiment
from symport_recipes.setups import Bench


@dataclass(frozen=True)
class Zoo(RowExperiment[Finding]):
    """The symmetry of every architecture; independent of seeds."""

    seeds = 1
    file = "architectures.json"
    kind = Finding
    key = ("name",)

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[Any, ...]]:  # noqa: ARG002
        """Every architecture."""
        return [(architecture.name,) for architecture in ZOO]

    def measure(self, case: tuple[Any, ...], bench: Bench) -> Finding:  # noqa: ARG002
        """Find and prove."""
        logging.getLogger("transformers").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="transformers")
            return measure(next(a for a in ZOO if (a.name,) == case)).finding

    def publish(self, folder: Path) -> Sequence[Path]:
        """Write `architectures.md`, in the order of the zoo."""
        found = {finding.name: finding for finding in self.records(folder / self.file)}
        shown = [architecture for architecture in ZOO if architecture.name in found]
        if not shown:
            return ()
        text = page([found[architecture.name] for architecture in shown], shown)
        write_text(folder / "architectures.md", text)
        return (folder / "architectures.md",)
