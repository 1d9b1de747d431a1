"""Data sets: fetched, loaded, split, and drawn in batches."""

from symport_recipes.data.augment import augmented, crop_and_flip, resized_crop_and_flip
from symport_recipes.data.batches import batches, fixed_batches
from symport_recipes.data.cifar import cifar10, cifar100
from symport_recipes.data.dataset import Dataset, Examples, normalise
from symport_recipes.data.digits import digits
from symport_recipes.data.fetch import fetch
from symport_recipes.data.find import find_data, load, load_lazy
from symport_recipes.data.images import LazyDataset, LazyImages
from symport_recipes.data.mnist import mnist
from symport_recipes.data.splits import few_labels, noisy_labels, only_classes, split

__all__ = [
    "Dataset",
    "Examples",
    "LazyDataset",
    "LazyImages",
    "augmented",
    "batches",
    "cifar10",
    "cifar100",
    "crop_and_flip",
    "digits",
    "fetch",
    "few_labels",
    "find_data",
    "fixed_batches",
    "load",
    "load_lazy",
    "mnist",
    "noisy_labels",
    "normalise",
    "only_classes",
    "resized_crop_and_flip",
    "split",
]
