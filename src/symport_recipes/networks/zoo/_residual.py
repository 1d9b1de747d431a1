"""Compact versions of well-known convolutional networks, wired as the originals are."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from torch import Tensor, nn
from torch.nn import functional as F

Norm: TypeAlias = Callable[[int], nn.Module]


@final
class Block(nn.Module):
    """Two convolutions of a ResNet, or three around a grouped one."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        width: int | None = None,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        middle = width or outputs
        self.conv1 = nn.Conv2d(inputs, middle, 1 if width else 3, 1 if width else stride,
                               0 if width else 1, bias=False)  # fmt: skip
        self.bn1 = norm(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride if width else 1, 1, bias=False,
                               groups=groups)  # fmt: skip
        self.bn2 = norm(middle)
        self.last = nn.Sequential()
        if width:
            self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(width, outputs, 1), norm(outputs))
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.last(self.bn2(self.conv2(y)))
        return F.relu_(y + self.downsample(x))


@final
class ResNet(nn.Module):
    """ResNet-18 has layers (2, 2, 2, 2); with a bottleneck, ResNet-50 has (3, 4, 6, 3)."""

    def __init__(
        self,
        layers: Sequence[int],
        base: int = 4,
        bottleneck: bool = False,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
        block: Callable[..., nn.Module] = Block,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, base, 7, 2, 3, bias=False)
        self.bn1, self.pool = norm(base), nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        inputs = base
        for stage, count in enumerate(layers):
            width = base * 2**stage
            outputs = width * (4 if bottleneck else 1)
            for k in range(count):
                blocks.append(block(inputs, outputs, 2 if stage and not k else 1,
                                    width if bottleneck else None, groups, norm))  # fmt: skip
                inputs = outputs
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1))


@final
class PreActivation(nn.Module):
    """The block of a pre-activation ResNet: norm and ReLU come before each convolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        width: int | None = None,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        middle = width or outputs
        self.bn1, self.bn2 = norm(inputs), norm(middle)
        self.conv1 = nn.Conv2d(inputs, middle, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(middle, outputs, 3, 1, 1, bias=False, groups=groups)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        y = F.relu(self.bn1(x))
        x = x if self.shortcut is None else self.shortcut(y)
        return x + self.conv2(F.relu(self.bn2(self.conv1(y))))
