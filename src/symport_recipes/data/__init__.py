"""Data sets: download, load, split, and draw batches."""

from symport_recipes.data._augment import augmented, crop_and_flip, resized_crop_and_flip
from symport_recipes.data._batches import batches, check_images, counted, fixed_batches
from symport_recipes.data._dataset import Dataset, Examples, normalise
from symport_recipes.data._fetch import DOWNLOADS, fetch
from symport_recipes.data._images import LazyDataset, LazyImages
from symport_recipes.data._places import VARIABLE, cache_folder
from symport_recipes.data._registry import find_data, load, load_lazy
from symport_recipes.data._splits import few_labels, noisy_labels, only_classes, split
from symport_recipes.data.readers import cifar10, cifar100, digits, mnist

__all__ = [
    "DOWNLOADS",
    "VARIABLE",
    "Dataset",
    "Examples",
    "LazyDataset",
    "LazyImages",
    "augmented",
    "batches",
    "cache_folder",
    "check_images",
    "cifar10",
    "cifar100",
    "counted",
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
