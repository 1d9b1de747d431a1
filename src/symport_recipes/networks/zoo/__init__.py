"""Architectures whose symmetry is known, in tiny sizes."""

from symport_recipes.networks.zoo._catalogue import ZOO, Architecture
from symport_recipes.networks.zoo._components import COMPONENTS
from symport_recipes.networks.zoo._convnets import DenseNet
from symport_recipes.networks.zoo._language import Llama
from symport_recipes.networks.zoo._residual import ResNet

__all__ = [
    "COMPONENTS",
    "ZOO",
    "Architecture",
    "DenseNet",
    "Llama",
    "ResNet",
]
