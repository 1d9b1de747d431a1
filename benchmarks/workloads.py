"""Gradient-like pairs of tensors for three networks, with a planted permutation.

Gradients of a layer during training are modelled by a few persistent directions that rotate slowly,
plus noise that grows relative to them as the loss decreases. The scales of units are heavy-tailed,
and some units are dead. For each tensor of the source, at step t of T,

    g_t = size_t (sum_r r^-DECAY u_r(t) ⊗ v_r(t) + noise_t N_t) * scale_out * scale_in

where u_r(t) rotates from one random vector towards another and N_t is Gaussian. The target is drawn
in the same way, with factors and scales that correlate with the source's, but independent noise and
dead units, and its units are permuted by `Workload.planted`. The constants below reproduce
measurements on the gradients of a 784-512-512-10 network trained on MNIST: similarities of
effective rank 6 to 12, and a cosine of 0.5 after matching. Coordinate ascent from the identity then
finds between none and three quarters of a group's planted positions; compare objectives instead.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from symport.spec import Fixed, Permutation, PermutationSpec, Product, Unit, permute

RANK = 24  # persistent directions in each tensor
DECAY = 0.75  # strength of the r-th of them is r^-DECAY
CORRELATION = 0.85  # of factors and log-scales between source and target
SPREAD = 0.7  # standard deviation of the log-scale of a unit
DEAD = (0.10, 0.20)  # share of dead units, drawn for each group
SIZE = (1.0, 0.25)  # of the whole gradient at the first and the last step
NOISE = (0.35, 2.0)  # root mean square of the noise over that of the signal, likewise
TURN = math.pi / 3  # largest angle between a direction at the first and at the last step


@dataclass(frozen=True, eq=False)
class Workload:
    """A sequence of gradient-like pairs, the same ones every time it is read.

    Attributes:
        name: What the shapes are taken from.
        spec: The symmetry; buffers are in the spec but not among the gradients.
        steps: Number of pairs T.
        planted: The permutation from the source's units to their positions in the target.
        source: Draws the source's gradients of step t in [0, T).
        target: Draws the target's gradients, already in the order of `planted`.
    """

    name: str
    spec: PermutationSpec
    steps: int
    planted: Permutation
    source: Callable[[int], dict[str, Tensor]]
    target: Callable[[int], dict[str, Tensor]]

    def pairs(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Yield (target, source) for each step: float32 dicts that nothing else refers to."""
        for step in range(self.steps):
            yield self.target(step), self.source(step)


def mlp(*, steps: int = 30, width: int = 512, seed: int = 0) -> Workload:
    """784-512-512-10: two groups, one tensor with two moving axes."""
    shapes = {
        "fc1.weight": (width, 784),
        "fc1.bias": (width,),
        "fc2.weight": (width, width),
        "fc2.bias": (width,),
        "fc3.weight": (10, width),
        "fc3.bias": (10,),
    }
    patterns = {
        "fc1.weight": "h1 .",
        "fc1.bias": "h1",
        "fc2.weight": "h2 h1",
        "fc2.bias": "h2",
        "fc3.weight": ". h2",
        "fc3.bias": ".",
    }
    return build("mlp", shapes, patterns, steps, seed)


def conv8(*, steps: int = 30, classes: int = 10, seed: int = 0) -> Workload:
    """The paper's Conv8: nine convolutions (the last on a 1x1 map) and three linear layers."""
    channels = [64, 64, 128, 128, 256, 256, 512, 512, 512]
    shapes: dict[str, tuple[int, ...]] = {}
    patterns: dict[str, str] = {}
    for k, (narrow, wide) in enumerate(zip([3, *channels], channels, strict=False), start=1):
        shapes |= {f"conv{k}.weight": (wide, narrow, 3, 3), f"conv{k}.bias": (wide,)}
        before = "." if k == 1 else f"c{k - 1}"
        patterns |= {f"conv{k}.weight": f"c{k} {before} . .", f"conv{k}.bias": f"c{k}"}
    shapes |= {
        "fc1.weight": (256, 512),
        "fc1.bias": (256,),
        "fc2.weight": (256, 256),
        "fc2.bias": (256,),
        "fc3.weight": (classes, 256),
        "fc3.bias": (classes,),
    }
    patterns |= {
        "fc1.weight": "h1 (c9 1)",
        "fc1.bias": "h1",
        "fc2.weight": "h2 h1",
        "fc2.bias": "h2",
        "fc3.weight": ". h2",
        "fc3.bias": ".",
    }
    return build("conv8", shapes, patterns, steps, seed)


def resnet18(*, steps: int = 15, classes: int = 1000, seed: int = 0) -> Workload:
    """ResNet-18 of torchvision, on ImageNet: 12 groups, with BatchNorm parameters and buffers."""
    shapes, patterns = resnet18_tensors(classes)
    buffers = [name for name in shapes if "running" in name or "tracked" in name]
    return build("resnet18", shapes, patterns, steps, seed, buffers)


def resnet18_tensors(classes: int) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shape and hand-written pattern of every tensor of torchvision's ResNet-18 state dict.

    The stem and all of layer1 share the residual group `s1` (identity shortcuts); a 1x1 shortcut
    begins the groups `s2` to `s4`; each block has a group of its own between its convolutions.
    """
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    patterns = {"conv1.weight": "s1 . . .", **_norm("bn1", "s1")}

    def conv(name: str, norm: str, out: str, into: str, size: tuple[int, int, int]) -> None:
        wide, narrow, kernel = size
        shapes.update({f"{name}.weight": (wide, narrow, kernel, kernel), **_norm(norm, wide)})
        patterns.update({f"{name}.weight": f"{out} {into} . .", **_norm(norm, out)})

    for stage, wide in enumerate([64, 128, 256, 512], start=1):
        narrow, before = (wide // 2, f"s{stage - 1}") if stage > 1 else (64, "s1")
        for block in range(2):
            at, inner, stream = f"layer{stage}.{block}", f"s{stage}b{block}", f"s{stage}"
            first = block == 0 and stage > 1
            incoming, width = (before, narrow) if first else (stream, wide)
            conv(f"{at}.conv1", f"{at}.bn1", inner, incoming, (wide, width, 3))
            conv(f"{at}.conv2", f"{at}.bn2", stream, inner, (wide, wide, 3))
            if first:
                shortcut = f"{at}.downsample"
                conv(f"{shortcut}.0", f"{shortcut}.1", stream, before, (wide, narrow, 1))
    shapes |= {"fc.weight": (classes, 512), "fc.bias": (classes,)}
    patterns |= {"fc.weight": ". s4", "fc.bias": "."}
    return shapes, patterns


def _norm(name: str, channels):
    """BatchNorm's five tensors: their shapes for a number, their patterns for a group."""
    along, none = (channels, "") if isinstance(channels, str) else ((channels,), ())
    moving = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": along for part in moving}, f"{name}.num_batches_tracked": none}


def build(
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    patterns: Mapping[str, str],
    steps: int,
    seed: int,
    buffers: list[str] | None = None,
) -> Workload:
    """Draw what is constant; what changes is drawn from the seed at each step."""
    like = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    spec = PermutationSpec.parse(patterns, like, buffers=buffers or ())
    learned = {key: shape for key, shape in shapes.items() if key not in spec.buffers}
    generator = Generator().manual_seed(seed)
    planted = Permutation.random(spec, generator)
    source = _network(learned, spec, generator, None)
    target = _network(learned, spec, generator, source)

    def draw(network: "_Network", which: int) -> Callable[[int], dict[str, Tensor]]:
        def at(step: int) -> dict[str, Tensor]:
            if not 0 <= step < steps:
                raise IndexError(f"step {step} is not in 0...{steps - 1}")
            noise = Generator().manual_seed((seed * 10_007 + step) * 2 + which)
            return network.gradients(step / max(steps - 1, 1), noise)

        return at

    of_target = draw(target, 1)
    return Workload(
        name, spec, steps, planted, draw(source, 0), lambda t: permute(of_target(t), spec, planted)
    )


@dataclass(frozen=True, eq=False)
class _Factors:
    """The persistent directions of a tensor seen as a matrix, by both ends of their rotation."""

    rows: Tensor  # (2, rank, out)
    columns: Tensor  # (2, rank, in)
    strength: Tensor  # (rank,)
    speed: Tensor  # (rank,) share of TURN

    def at(self, time: float) -> Tensor:
        angle = (self.speed * TURN * time)[:, None]
        rows = angle.cos() * self.rows[0] + angle.sin() * self.rows[1]
        columns = angle.cos() * self.columns[0] + angle.sin() * self.columns[1]
        return (rows * self.strength[:, None]).T @ columns


@dataclass(frozen=True, eq=False)
class _Network:
    """What is constant over all steps for one of the two networks."""

    shapes: Mapping[str, tuple[int, ...]]
    factors: Mapping[str, _Factors]
    scales: Mapping[str, list[Tensor]]
    unit_scales: Mapping[str, Tensor]

    def gradients(self, time: float, generator: Generator) -> dict[str, Tensor]:
        """The gradients at a time in [0, 1]."""
        size, noise = (first + (last - first) * time for first, last in (SIZE, NOISE))
        result: dict[str, Tensor] = {}
        for name, shape in self.shapes.items():
            signal = self.factors[name].at(time).reshape(shape)
            total = torch.randn(shape, generator=generator).mul_(noise).add_(signal)
            total *= size
            for scale in self.scales[name]:
                total *= scale
            result[name] = total
        return result


def _network(
    shapes: Mapping[str, tuple[int, ...]],
    spec: PermutationSpec,
    generator: Generator,
    model: _Network | None,
) -> _Network:
    """A network whose factors and scales correlate with those of `model`; dead units do not."""
    factors = {
        name: _factors(shape, generator, model.factors[name] if model else None)
        for name, shape in shapes.items()
    }
    logs: dict[str, Tensor] = {}
    alive: dict[str, Tensor] = {}
    for group, size in spec.sizes.items():
        like = model.unit_scales[group] if model else None
        logs[group] = _correlated((size,), generator, like)
        share = float(torch.empty(()).uniform_(*DEAD, generator=generator))
        alive[group] = (torch.rand(size, generator=generator) >= share).float()
    units = {group: (SPREAD * log).exp() * alive[group] for group, log in logs.items()}
    scales = {name: _scales(spec, name, shape, units) for name, shape in shapes.items()}
    return _Network(shapes, factors, scales, logs)


def _factors(shape: tuple[int, ...], generator: Generator, like: _Factors | None) -> _Factors:
    rows, columns = shape[0], math.prod(shape[1:])
    strength = torch.arange(1, RANK + 1) ** -DECAY
    return _Factors(
        _correlated((2, RANK, rows), generator, like and like.rows),
        _correlated((2, RANK, columns), generator, like and like.columns),
        strength / strength.norm(),
        like.speed if like else torch.rand(RANK, generator=generator),
    )


def _scales(
    spec: PermutationSpec, name: str, shape: tuple[int, ...], units: Mapping[str, Tensor]
) -> list[Tensor]:
    """A factor for each moving axis, ready to multiply with the tensor."""
    result: list[Tensor] = []
    for dim, axis in enumerate(spec.patterns[name]):
        repeat = 1
        match axis:
            case Unit(group):
                pass
            case Product((Unit(group), Fixed(int(repeat)))):
                pass
            case _:
                continue
        wide = [1] * len(shape)
        wide[dim] = shape[dim]
        result.append(units[group].repeat_interleave(repeat).reshape(wide))
    return result


def _correlated(shape: tuple[int, ...], generator: Generator, like: Tensor | None) -> Tensor:
    fresh = torch.randn(shape, generator=generator)
    if like is None:
        return fresh
    return CORRELATION * like + math.sqrt(1 - CORRELATION**2) * fresh
