"""Fine-tunes of small transformers ported between bases that were trained here, on real data."""

from symport_recipes.ports._experiment import FAMILIES, Ports
from symport_recipes.ports._options import Options

__all__ = ["FAMILIES", "Options", "Ports"]
