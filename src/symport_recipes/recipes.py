"""Every recipe by its name: the paper's figures and tables, and further experiments."""

from collections.abc import Mapping
from typing import Any

from symport_recipes.experiments import Choosing, Demo, Planted, Zoo
from symport_recipes.figures import FIGURES
from symport_recipes.ports import FAMILIES, Options, Ports
from symport_recipes.runner import Experiment, Recipe

__all__ = ["RECIPES"]

# Sums over the committed records, and the training of the networks as their modules say.
COST_OF_PORTS = {"llama": "2 hours", "bert": "20 minutes", "vit": "20 minutes"}


def _recipe(name: str, title: str, cost: str, experiment: Experiment[Any, Any]) -> Recipe:
    return Recipe(name=name, title=title, scales={"cpu": experiment}, costs={"cpu": cost})


_BESIDE = (
    _recipe("demo", "Digits with few labels", "2 minutes on two cores", Demo()),
    _recipe("choosing", "Choosing with few labels", "3 minutes on two cores", Choosing()),
    _recipe("architectures", "What is found in the zoo", "2 minutes on one core", Zoo()),
    _recipe("planted", "Permutations recovered from weights", "2 minutes on one core", Planted()),
    *(
        _recipe(f"ports-{family}", f"Ports between transformers: {family}",
                f"{COST_OF_PORTS[family]} on one core", Ports(family))
        for family in FAMILIES
    ),
    _recipe("options", "Ports: options of gradient matching", "not measured", Options()),
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = {**FIGURES, **{recipe.name: recipe for recipe in _BESIDE}}
