"""Compact versions of well-known networks, wired as the originals are."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions of a ResNet, or three around a grouped one."""

    def __init__(self, inputs, outputs, stride=1, width=None, groups=1, norm=nn.BatchNorm2d):
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

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.last(self.bn2(self.conv2(y)))
        return F.relu_(y + self.downsample(x))


class ResNet(nn.Module):
    """ResNet-18 has layers (2, 2, 2, 2); with a bottleneck, ResNet-50 has (3, 4, 6, 3)."""

    def __init__(self, layers, base=4, bottleneck=False, groups=1, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(3, base, 7, 2, 3, bias=False)
        self.bn1, self.pool = norm(base), nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], base
        for stage, count in enumerate(layers):
            width = base * 2**stage
            outputs = width * (4 if bottleneck else 1)
            for k in range(count):
                blocks.append(Block(inputs, outputs, 2 if stage and not k else 1,
                                    width if bottleneck else None, groups, norm))  # fmt: skip
                inputs = outputs
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1))


class Inverted(nn.Module):
    """The block of MobileNetV2: widen, convolve each channel on its own, narrow."""

    def __init__(self, inputs, outputs, stride, widen):
        super().__init__()
        hidden = inputs * widen
        layers = [] if widen == 1 else [
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        ]  # fmt: skip
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        ]  # fmt: skip
        self.conv, self.residual = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
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

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, 1, 1)

    def forward(self, parts):
        y = self.conv1(F.relu(self.norm1(torch.cat(parts, 1))))
        return self.conv2(F.relu(self.norm2(y)))


class DenseBlock(nn.Module):
    def __init__(self, count, inputs, growth):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + k * growth, growth) for k in range(count))

    def forward(self, x):
        parts = [x]
        for layer in self.layers:
            parts.append(layer(parts))
        return torch.cat(parts, 1)


class DenseNet(nn.Module):
    """DenseNet-121 has blocks of (6, 12, 24, 16)."""

    def __init__(self, blocks=(6, 12, 24, 16), growth=2, inputs=4):
        super().__init__()
        layers = [nn.Conv2d(3, inputs, 7, 2, 3), nn.BatchNorm2d(inputs), nn.ReLU(),
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

    def forward(self, x):
        x = F.relu(self.features(x))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


class RMSNorm(nn.Module):
    """As most language models write it: in float32 whatever comes in."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = x.to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


class LlamaLayer(nn.Module):
    def __init__(self, width, heads, kv, units, hidden, qk_norm):
        super().__init__()
        self.heads, self.kv, self.units = heads, kv, units
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.q = nn.Linear(width, heads * units, bias=False)
        self.k = nn.Linear(width, kv * units, bias=False)
        self.v = nn.Linear(width, kv * units, bias=False)
        self.o = nn.Linear(heads * units, width, bias=False)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)
        self.q_norm = RMSNorm(units) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(units) if qk_norm else nn.Identity()

    def split(self, rows, heads):
        return rows.unflatten(-1, (heads, self.units)).transpose(1, 2)

    def forward(self, x, turn):
        y = self.norm1(x)
        q, k = self.split(self.q(y), self.heads), self.split(self.k(y), self.kv)
        q, k, v = turn(self.q_norm(q)), turn(self.k_norm(k)), self.split(self.v(y), self.kv)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Rotary positions unless `rope` is False; tied embeddings if wanted."""

    def __init__(self, layers=2, width=12, heads=4, kv=2, units=4, hidden=10, *, rope=True,
                 qk_norm=False, tied=False):  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(16, width)
        self.layers = nn.ModuleList(
            LlamaLayer(width, heads, kv, units, hidden, qk_norm) for _ in range(layers)
        )
        self.norm, self.head = RMSNorm(width), nn.Linear(width, 16, bias=False)
        self.rope = rope
        self.register_buffer("freq", 10.0 ** -torch.linspace(0, 1, units // 2), persistent=False)
        if tied:
            self.head.weight = self.embed.weight

    def turn(self, x):
        if not self.rope:
            return x
        angle = torch.arange(x.shape[-2])[:, None] * self.freq
        angle = torch.cat([angle, angle], -1)
        a, b = x.chunk(2, -1)
        return x * angle.cos() + torch.cat([-b, a], -1) * angle.sin()

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, self.turn)
        return self.head(self.norm(x))
