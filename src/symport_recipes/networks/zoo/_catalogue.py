"""Architectures whose symmetry is known, in tiny sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from symport_recipes.networks.zoo._convnets import (
    DenseNet,
    MobileNetV2,
    UNet,
    googlenet,
    mobilenet_v3,
    shufflenet,
    vgg,
)
from symport_recipes.networks.zoo._diffusion import DiffusionUNet
from symport_recipes.networks.zoo._language import Adapter, Llama, Mixer, Reader, TiedLoop
from symport_recipes.networks.zoo._residual import PreActivation, ResNet
from symport_recipes.networks.zoo._transformers import CASES, MOVING, NOTES, build, scores


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network and what is known about it.

    Attributes:
        name: Its usual name.
        make: Builds it with random weights.
        inputs: An example: a tensor, a tuple of them, or a mapping of keyword arguments.
        expected_groups: How many groups it has, from independent knowledge.
        select: Picks the output that counts; all of them if None.
        moving: Buffers that move with their units, as for `discover`.
        note: What is left out, and why; empty if every permutation symmetry is found.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Any
    expected_groups: int
    select: Callable[[Any], Any] | None = None
    moving: tuple[str, ...] = ()
    note: str = ""


def perceptron() -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def adapted() -> nn.Module:
    """Two hidden layers, an adapter on each of the three."""
    return nn.Sequential(Adapter(4, 8), nn.ReLU(), Adapter(8, 6), nn.ReLU(), Adapter(6, 3))


def group_norm(width: int) -> nn.Module:
    """Two groups of channels."""
    return nn.GroupNorm(2, width)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(0))


IMAGE, ROWS, SEQUENCE = _random(1, 3, 32, 32), _random(2, 4), _random(2, 5, 4)
TOKENS = torch.tensor([[1, 5, 2, 9, 3], [4, 4, 7, 0, 15]])
SHUFFLED = (
    "12 of the 21 sets of channels that move apart; a shuffle interleaves two branches channel by "
    "channel, which no pattern can express unless both take one permutation"
)
SMALL, LARGE = (2, 2, 2, 2), (3, 4, 6, 3)

WRITTEN = [
    Architecture("MLP", perceptron, ROWS, 2),
    Architecture("MLP, one layer three times", TiedLoop, ROWS, 1),
    Architecture("MLP with adapters", adapted, ROWS, 2 + 3),  # ranks of each adapter
    # 8 convolutions and 2 hidden layers.
    Architecture("VGG-11", vgg, IMAGE, 8 + 2),
    Architecture("VGG-11, BatchNorm", partial(vgg, True), IMAGE, 8 + 2),
    # A hidden convolution (two, and the stem) in each block, and a stream for each of four stages;
    # under GroupNorm all of them are groups of channels with channels inside.
    Architecture("ResNet-18", partial(ResNet, SMALL), IMAGE, 8 + 4),
    Architecture("ResNet-34", partial(ResNet, LARGE), IMAGE, 16 + 4),
    Architecture("ResNet-50", partial(ResNet, LARGE, bottleneck=True), IMAGE, 2 * 16 + 4 + 1),
    Architecture("WideResNet-18", partial(ResNet, SMALL, base=16), IMAGE, 8 + 4),
    Architecture("ResNet-18, pre-activation", partial(ResNet, SMALL, block=PreActivation), IMAGE,
                 8 + 4),
    Architecture("ResNet-18, GroupNorm", partial(ResNet, SMALL, norm=group_norm), IMAGE,
                 2 * (8 + 4)),
    Architecture("ResNeXt-50", partial(ResNet, LARGE, base=8, bottleneck=True, groups=4), IMAGE,
                 3 * 16 + 4 + 1),
    # Every convolution has its own channels: the first, two in each of 58 layers, 3 transitions.
    Architecture("DenseNet-121", DenseNet, IMAGE, 1 + 2 * 58 + 3),
    # Stem, 7 stages, the 16 blocks that widen, head.
    Architecture("MobileNetV2", MobileNetV2, IMAGE, 1 + 7 + 16 + 1),
    # Two streams, hidden and squeezed channels in 3 blocks, head of two layers.
    Architecture("MobileNetV3", mobilenet_v3, IMAGE, 2 + 2 * 3 + 2),
    # First and last convolution, a hidden one in each of 3 + 2 units, and as many runs of channels
    # in a stage as it has units, since each unit after the first splits a run in two. All there
    # are: the same 7, and of each branch as many sets as there are ways that its channels take
    # through the halves of later units. Stage one: 3 + 3 of the first unit's branches (consumed by
    # the second, by the third, by none), 2 of the second's, 1 of the third's; two: 2 + 2 + 1.
    Architecture("ShuffleNetV2", shufflenet, IMAGE, 2 + 5 + 3 + 2, note=SHUFFLED),
    # Stem; 6 convolutions in each of 3 modules.
    Architecture("GoogLeNet", googlenet, IMAGE, 1 + 3 * 6),
    # 5 pairs of convolutions, 2 transposed ones.
    Architecture("UNet", UNet, _random(1, 3, 16, 16), 5 * 2 + 2),
    # 2 layers for the time; the first stream in three levels, as norms of two sizes read it; 7
    # other convolutions in norm groups with channels inside; heads and two kinds of units.
    Architecture("Diffusion UNet", DiffusionUNet, (_random(2, 3, 8, 8), _random(2)),
                 2 + 3 + 7 * 2 + 3),
    Architecture("LSTM", partial(Reader, nn.LSTM), SEQUENCE, 1),
    Architecture("GRU", partial(Reader, nn.GRU), SEQUENCE, 1),
    Architecture("LSTM, 2 layers, both directions",
                 partial(Reader, nn.LSTM, num_layers=2, bidirectional=True), SEQUENCE, 2 * 2),
    # The stream; hidden tokens and hidden units in each of 2 layers.
    Architecture("MLP-Mixer", Mixer, _random(1, 3, 16, 16), 1 + 2 * 2),
    # The stream; heads of keys, of queries, units of queries and keys, of values, hidden units.
    Architecture("Llama without rotary positions", partial(Llama, rope=False), TOKENS, 1 + 2 * 5),
]  # fmt: skip
ZOO = [
    *WRITTEN,
    *(
        Architecture(
            name,
            partial(build, name),
            inputs,
            count,
            scores,
            MOVING.get(name, ()),
            NOTES.get(name, ""),
        )
        for name, (_, _, inputs, count) in CASES.items()
    ),
]
