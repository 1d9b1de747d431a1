"""Compact convolutional networks that are not residual throughout, wired as the originals are."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class Inverted(nn.Module):
    """The block of MobileNetV2: widen, convolve each channel on its own, narrow."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        hidden = inputs * widen
        layers: list[nn.Module] = [] if widen == 1 else [
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        ]  # fmt: skip
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        ]  # fmt: skip
        self.conv, self.residual = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return x + self.conv(x) if self.residual else self.conv(x)


@final
class MobileNetV2(nn.Module):
    """All its inverted blocks, narrow."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
        ]
        inputs = 8
        table = [(1, 4, 1, 1), (6, 6, 2, 2), (6, 8, 3, 2), (6, 10, 4, 2), (6, 12, 3, 1),
                 (6, 14, 3, 2), (6, 16, 1, 1)]  # fmt: skip
        for widen, outputs, count, stride in table:
            for k in range(count):
                layers.append(Inverted(inputs, outputs, 1 if k else stride, widen))
                inputs = outputs
        layers += [nn.Conv2d(inputs, 20, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(20, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


@final
class DenseLayer(nn.Module):
    """Reads all that came before, adds `growth` channels."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, 1, 1)

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Run it."""
        y = self.conv1(F.relu(self.norm1(torch.cat(parts, 1))))
        return self.conv2(F.relu(self.norm2(y)))


@final
class DenseBlock(nn.Module):
    """Layers that each read all that came before."""

    def __init__(self, count: int, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + k * growth, growth) for k in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        parts = [x]
        for layer in self.layers:
            parts.append(layer(parts))
        return torch.cat(parts, 1)


@final
class DenseNet(nn.Module):
    """DenseNet-121 has blocks of (6, 12, 24, 16)."""

    def __init__(
        self, blocks: Sequence[int] = (6, 12, 24, 16), growth: int = 2, inputs: int = 4
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, inputs, 7, 2, 3), nn.BatchNorm2d(inputs), nn.ReLU(),
                  nn.MaxPool2d(3, 2, 1)]  # fmt: skip
        for k, count in enumerate(blocks):
            layers.append(DenseBlock(count, inputs, growth))
            inputs += count * growth
            if k < len(blocks) - 1:
                layers += [nn.BatchNorm2d(inputs), nn.ReLU(),
                           nn.Conv2d(inputs, inputs // 2, 1), nn.AvgPool2d(2)]  # fmt: skip
                inputs //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(inputs))
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = F.relu(self.features(x))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def vgg(norm: bool = False) -> nn.Module:
    """VGG-11: convolutions and pooling, then the positions that are left flattened."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in (4, 0, 6, 0, 8, 8, 0, 10, 10, 0, 10, 10):
        if not outputs:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs)] * norm
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    head = [nn.Flatten(), nn.Linear(10 * 4, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 12),
            nn.ReLU(), nn.Dropout(), nn.Linear(12, 10)]  # fmt: skip
    return nn.Sequential(*layers, *head)


def convolve(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1):
    """A convolution that keeps positions, its BatchNorm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


@final
class Inception(nn.Module):
    """The module of GoogLeNet: four branches side by side."""

    def __init__(self, inputs: int, outputs: Sequence[int], hidden: Sequence[int]) -> None:
        super().__init__()
        self.one = convolve(inputs, outputs[0])
        self.three = nn.Sequential(convolve(inputs, hidden[0]), convolve(hidden[0], outputs[1], 3))
        self.five = nn.Sequential(convolve(inputs, hidden[1]), convolve(hidden[1], outputs[2], 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), convolve(inputs, outputs[3]))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def googlenet() -> nn.Module:
    """A stem, three Inception modules, a mean over positions."""
    return nn.Sequential(
        convolve(3, 6, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        Inception(6, (4, 6, 3, 5), (4, 2)),
        Inception(18, (5, 8, 4, 3), (6, 3)),
        nn.MaxPool2d(3, 2, 1),
        Inception(20, (6, 8, 4, 4), (5, 3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(22, 10),
    )


@final
class Shuffled(nn.Module):
    """The unit of ShuffleNetV2: half of the channels pass, then both halves are interleaved."""

    def __init__(self, width: int, down: bool) -> None:
        super().__init__()
        inputs, stride = (width, 2) if down else (width // 2, 1)
        self.down = down
        half = width if down else width // 2
        self.right = nn.Sequential(
            convolve(inputs, half),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            convolve(half, half),
        )
        self.left = nn.Identity()
        if down:
            depthwise = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False)
            self.left = nn.Sequential(depthwise, nn.BatchNorm2d(inputs), convolve(inputs, half))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        left, right = (x, x) if self.down else x.chunk(2, 1)
        return F.channel_shuffle(torch.cat([self.left(left), self.right(right)], 1), 2)


def shufflenet() -> nn.Module:
    """A stem, two stages, a last convolution."""
    return nn.Sequential(
        convolve(3, 8, 3, 2), Shuffled(8, True), Shuffled(16, False), Shuffled(16, False),
        Shuffled(16, True), Shuffled(32, False), convolve(32, 12),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


@final
class Excited(nn.Module):
    """The block of MobileNetV3: an inverted block whose channels are scaled by their means."""

    def __init__(self, width: int, hidden: int, squeezed: int) -> None:
        super().__init__()
        self.widen, self.each = convolve(width, hidden), convolve(hidden, hidden, 5, 1, hidden)
        self.squeeze, self.excite = nn.Conv2d(hidden, squeezed, 1), nn.Conv2d(squeezed, hidden, 1)
        self.narrow = nn.Sequential(nn.Conv2d(hidden, width, 1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        y = F.hardswish(self.each(self.widen(x)))
        scale = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1))))
        return x + self.narrow(y * F.hardsigmoid(scale))


def mobilenet_v3() -> nn.Module:
    """A stem, three blocks with squeeze and excitation, a head of two layers."""
    return nn.Sequential(
        convolve(3, 6, 3, 2), Excited(6, 12, 4), Excited(6, 14, 4), convolve(6, 8, 3, 2),
        Excited(8, 16, 4), convolve(8, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 16), nn.Hardswish(), nn.Dropout(), nn.Linear(16, 10),
    )  # fmt: skip


@final
class UNet(nn.Module):
    """Two levels down and up again, with concatenated shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.middle = self._double(3, 6), self._double(6, 10)
        self.bottom = self._double(10, 14)
        self.up1, self.up2 = nn.ConvTranspose2d(14, 8, 2, 2), nn.ConvTranspose2d(10, 5, 2, 2)
        self.join1, self.join2 = self._double(18, 10), self._double(11, 7)
        self.last = nn.Conv2d(7, 2, 1)

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(convolve(inputs, outputs, 3), convolve(outputs, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        top = self.top(x)
        middle = self.middle(F.max_pool2d(top, 2))
        y = self.up1(self.bottom(F.max_pool2d(middle, 2)))
        y = self.join1(torch.cat([middle, y], 1))
        return self.last(self.join2(torch.cat([top, self.up2(y)], 1)))
