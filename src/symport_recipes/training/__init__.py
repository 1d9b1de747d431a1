"""The training of a network: settings, one loop, checkpoints, and a cache of what was trained."""

from symport_recipes.training._cache import recorded, trained
from symport_recipes.training._model_folder import kept, made_by
from symport_recipes.training._settings import TrainSettings
from symport_recipes.training._train import train
from symport_recipes.training._transformers import Draw, Pace, Watch, drawn_from, train_

__all__ = [
    "Draw",
    "Pace",
    "TrainSettings",
    "Watch",
    "drawn_from",
    "kept",
    "made_by",
    "recorded",
    "train",
    "train_",
    "trained",
]
