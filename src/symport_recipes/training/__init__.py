"""The training of a network: settings, epochs, checkpoints, and a cache of what was trained."""

from symport_recipes.training._cache import recorded, trained
from symport_recipes.training._settings import TrainSettings
from symport_recipes.training._train import train

__all__ = [
    "TrainSettings",
    "recorded",
    "train",
    "trained",
]
