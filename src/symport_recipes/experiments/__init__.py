"""The kinds of experiments: what is measured for a pair of seeds."""

from symport_recipes.experiments._basins import Basins
from symport_recipes.experiments._curves import Curves, Sensitivity
from symport_recipes.experiments._later import Ensembles, Inheritance, Later
from symport_recipes.experiments._starts import Lengths, OtherStarts
from symport_recipes.experiments._theory import Drift, Similarity, Theorem31

__all__ = [
    "Basins",
    "Curves",
    "Drift",
    "Ensembles",
    "Inheritance",
    "Later",
    "Lengths",
    "OtherStarts",
    "Sensitivity",
    "Similarity",
    "Theorem31",
]
