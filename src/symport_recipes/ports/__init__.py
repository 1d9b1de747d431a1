"""Ports of fine-tunes of small transformers between bases trained here, on real data."""

from symport_recipes.ports._experiment import FAMILIES, Ports
from symport_recipes.ports._options import Options

__all__ = ["FAMILIES", "Options", "Ports"]
