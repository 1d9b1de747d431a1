"""Readers of the official, unmodified files of each data set."""

from symport_recipes.data.readers._cars import cars
from symport_recipes.data.readers._cifar import cifar10, cifar100
from symport_recipes.data.readers._cub import cub
from symport_recipes.data.readers._digits import digits
from symport_recipes.data.readers._folders import image_folder
from symport_recipes.data.readers._imagenet import imagenet
from symport_recipes.data.readers._mnist import mnist

__all__ = [
    "cars",
    "cifar10",
    "cifar100",
    "cub",
    "digits",
    "image_folder",
    "imagenet",
    "mnist",
]
