"""The kinds of experiments: what is measured for a pair of seeds."""

from symport_recipes.experiments._basins import Basins
from symport_recipes.experiments._choosing import Choosing
from symport_recipes.experiments._curves import Curves, Sensitivity
from symport_recipes.experiments._demo import COLUMNS as DEMO_COLUMNS
from symport_recipes.experiments._demo import Demo
from symport_recipes.experiments._demo import table as digits_table
from symport_recipes.experiments._demo import verdict as digits_verdict
from symport_recipes.experiments._later import Ensembles, Inheritance, Later
from symport_recipes.experiments._planted import Planted
from symport_recipes.experiments._starts import DisplacementScales, OtherStarts
from symport_recipes.experiments._theory import Drift, Similarity, Theorem31
from symport_recipes.experiments._zoo import Zoo

__all__ = [
    "DEMO_COLUMNS",
    "Basins",
    "Choosing",
    "Curves",
    "Demo",
    "DisplacementScales",
    "Drift",
    "Ensembles",
    "Inheritance",
    "Later",
    "OtherStarts",
    "Planted",
    "Sensitivity",
    "Similarity",
    "Theorem31",
    "Zoo",
    "digits_table",
    "digits_verdict",
]
