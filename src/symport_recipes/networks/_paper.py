"""The networks of the paper (appendix D.2), their layers named for the patterns of a spec.

All start from PyTorch's default initialization, as in the paper.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from symport.errors import SettingsError

CONV8_CHANNELS = ((64, 64), (128, 128), (256, 256), (512, 512))
CONV8_POOLS = (2, 2, 2, 4)
CONV8_HIDDEN = 256
RESNET18_CHANNELS = (64, 128, 256, 512)


def initial(
    model_function: Callable[[], nn.Module], seed: int, *, gain: float | None = None
) -> dict[str, Tensor]:
    """Draw the initial weights of a network; the global random state stays as it is.

    Args:
        model_function: Builds the network, such as `digits_mlp` or `lambda: mlp([64, 32, 10])`.
        seed: The same seed gives the same bits.
        gain: If set, weights are uniform with standard deviation gain / √fan_in and biases are
            zero. √2 keeps the size of signals through ReLU (He et al. 2015); PyTorch's default has
            the gain 1/√3, with which narrow deep networks without normalisation do not leave their
            initial plateau: Conv8 at a quarter of its width not in 11 epochs at lr .05.

    Returns:
        The state dict, buffers included, on the CPU.

    Example:
        >>> list(initial(lambda: mlp([2, 3]), seed=0))
        ['fc1.weight', 'fc1.bias']
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = model_function()
        if gain is not None:
            _draw_(model, gain)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _draw_(model: nn.Module, gain: float) -> None:
    for tensor in model.parameters():
        if tensor.ndim > 1:
            bound = gain * (3 / tensor[0].numel()) ** 0.5  # of a uniform distribution
            nn.init.uniform_(tensor, -bound, bound)
        else:
            nn.init.zeros_(tensor)


def mlp(widths: Sequence[int]) -> nn.Module:
    """A network of linear layers `fc1`, `fc2`, ... with ReLU between them.

    Args:
        widths: Sizes of the flattened input, of each hidden layer, and of the output.

    Raises:
        SettingsError: There are fewer than two widths, or one is below 1.

    Example:
        >>> mlp([4, 3, 2])(torch.zeros(5, 2, 2)).shape
        torch.Size([5, 2])
    """
    if len(widths) < 2 or min(widths) < 1:
        raise SettingsError(f"widths {list(widths)}: at least two of at least 1 are needed")
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    layers.update(_linears(widths))
    return nn.Sequential(layers)


def two_layer_mlp(width: int = 4096) -> nn.Module:
    """2-MLP of the paper's MNIST experiments (Table 1): 784-4096-10."""
    return mlp([784, width, 10])


def digits_mlp() -> nn.Module:
    """The network of the built-in digits: 64-512-512-10."""
    return mlp([64, 512, 512, 10])


def conv8(classes: int = 10, width: float = 1.0) -> nn.Module:
    """Conv8 of the paper's CIFAR experiments (Table 2), for images of 3 by 32 by 32.

    Four pairs of 3 by 3 convolutions, each pair followed by pooling, then one more convolution
    and three linear layers. (Table 2 prints 512 inputs for the last one; 256 arrive there.)

    Args:
        classes: Number of outputs.
        width: Multiplies every hidden width, at least 1/64; 1 is the paper's.

    Raises:
        SettingsError: An argument is out of its range.
    """
    if classes < 1 or round(64 * width) < 1:
        raise SettingsError(f"conv8: classes {classes} and width {width} are not allowed")
    layers = OrderedDict[str, nn.Module]()
    channels, number = 3, 0
    for pair, pool in zip(CONV8_CHANNELS, CONV8_POOLS, strict=True):
        for planned in pair:
            number += 1
            _add_convolution(layers, number, channels, round(planned * width))
            channels = round(planned * width)
        layers[f"pool{number // 2}"] = nn.MaxPool2d(pool)
    _add_convolution(layers, number + 1, channels, channels)
    layers["flatten"] = nn.Flatten()
    hidden = round(CONV8_HIDDEN * width)
    layers.update(_linears([channels, hidden, hidden, classes]))
    return nn.Sequential(layers)


def resnet18(classes: int = 1000) -> nn.Module:
    """ResNet-18 (He et al. 2016), with the tensor names and shapes of torchvision's.

    Args:
        classes: Number of outputs.

    Raises:
        SettingsError: `classes` is below 1.
    """
    if classes < 1:
        raise SettingsError(f"resnet18: classes must be at least 1, not {classes}")
    return ResNet18(classes)


@final
class BasicBlock(nn.Module):
    """Two 3 by 3 convolutions beside a skip; a 1 by 1 convolution where shapes change."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """From `(batch, channels, height, width)` to `(batch, out, height/stride, ...)`."""
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + skip)


@final
class ResNet18(nn.Module):
    """Four stages of two blocks between a 7 by 7 convolution and one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(BasicBlock(channels, out, stride), BasicBlock(out, out, 1))
            for channels, out, stride in zip(
                (64, *RESNET18_CHANNELS), RESNET18_CHANNELS, (1, 2, 2, 2), strict=False
            )
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)

    def forward(self, images: Tensor) -> Tensor:
        """From `(batch, 3, height, width)` to `(batch, classes)`."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _linears(widths: Sequence[int]) -> OrderedDict[str, nn.Module]:
    layers = OrderedDict[str, nn.Module]()
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, outputs)
        if number < len(widths) - 1:
            layers[f"relu_fc{number}"] = nn.ReLU()
    return layers


def _add_convolution(
    layers: OrderedDict[str, nn.Module], number: int, inputs: int, outputs: int
) -> None:
    layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
    layers[f"relu{number}"] = nn.ReLU()
