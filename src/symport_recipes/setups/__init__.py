"""Setups: a network, its data and its training, and what a seed draws from them."""

from symport_recipes.setups._comparison import FOLDS as DIGITS_FOLDS
from symport_recipes.setups._comparison import SCALES as DIGITS_SCALES
from symport_recipes.setups._comparison import Case, baselines, transferred
from symport_recipes.setups._digits import STEPS as DIGITS_STEPS
from symport_recipes.setups._digits import DigitsScene, digits_scene
from symport_recipes.setups._halves import halves
from symport_recipes.setups._paper import (
    CARS,
    CIFAR10,
    CIFAR10_CPU,
    CIFAR100,
    CIFAR100_CPU,
    CUB,
    IMAGENET,
    MNIST,
    MNIST_FAST,
    SMOKE,
    SMOKE_TUNED,
    mlp_scene,
    mnist_cpu,
    poor,
)
from symport_recipes.setups._scene import (
    TARGET_SEED,
    Bench,
    Line,
    Network,
    Pair,
    Scene,
    carry_on,
    draw,
    function,
    history,
    network,
    spec_of,
    start,
)

__all__ = [
    "CARS",
    "CIFAR10",
    "CIFAR10_CPU",
    "CIFAR100",
    "CIFAR100_CPU",
    "CUB",
    "DIGITS_FOLDS",
    "DIGITS_SCALES",
    "DIGITS_STEPS",
    "IMAGENET",
    "MNIST",
    "MNIST_FAST",
    "SMOKE",
    "SMOKE_TUNED",
    "TARGET_SEED",
    "Bench",
    "Case",
    "DigitsScene",
    "Line",
    "Network",
    "Pair",
    "Scene",
    "baselines",
    "carry_on",
    "digits_scene",
    "draw",
    "function",
    "halves",
    "history",
    "mlp_scene",
    "mnist_cpu",
    "network",
    "poor",
    "spec_of",
    "start",
    "transferred",
]
