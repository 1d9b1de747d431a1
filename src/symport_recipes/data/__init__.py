"""Data sets in memory: loaded, split, and drawn in batches."""

from symport_recipes.data.augment import crop_and_flip
from symport_recipes.data.batches import batches, fixed_batches
from symport_recipes.data.cifar import cifar10, cifar100
from symport_recipes.data.dataset import Dataset, Examples, normalise
from symport_recipes.data.digits import digits
from symport_recipes.data.find import find_data, load
from symport_recipes.data.mnist import mnist
from symport_recipes.data.splits import few_labels, only_classes, split

__all__ = [
    "Dataset",
    "Examples",
    "batches",
    "cifar10",
    "cifar100",
    "crop_and_flip",
    "digits",
    "few_labels",
    "find_data",
    "fixed_batches",
    "load",
    "mnist",
    "normalise",
    "only_classes",
    "split",
]
