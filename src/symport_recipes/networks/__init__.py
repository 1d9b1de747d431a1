"""Networks: those of the paper, and a zoo of architectures whose symmetry is known."""

from symport_recipes.networks._paper import conv8, digits_mlp, initial, mlp, resnet18, two_layer_mlp
from symport_recipes.networks.zoo import COMPONENTS, ZOO, Architecture, DenseNet, Llama, ResNet

__all__ = [
    "COMPONENTS",
    "ZOO",
    "Architecture",
    "DenseNet",
    "Llama",
    "ResNet",
    "conv8",
    "digits_mlp",
    "initial",
    "mlp",
    "resnet18",
    "two_layer_mlp",
]
