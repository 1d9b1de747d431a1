"""Scenes that train in a moment, on the built-in digits."""

from dataclasses import replace
from functools import partial

from torch import nn

from symport_recipes.networks import mlp
from symport_recipes.setups import Scene
from symport_recipes.training import TrainSettings

NARROW = partial(mlp, [64, 16, 10])
SMALL = Scene(
    model=NARROW,
    data="digits",
    training=TrainSettings(epochs=2, batch_size=128, lr=0.1),
    steps=2,
    batch_size=64,
)
TUNED = replace(SMALL, base=replace(SMALL, share=0.5))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
