"""How often `match` recovers a planted permutation from weights alone.

A network with random weights is permuted by a random element of its whole group, and matched to
the original. A seed counts if every group is recovered exactly, nested groups included. For
comparison, the same search starts from the identity instead of from invariants of permutations:
plain coordinate ascent, as in the papers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from symport.io import write_text
from symport.matching import match, weights
from symport.spec import Permutation, PermutationSpec, permute
from symport.symmetry import discover
from symport_recipes.networks import ZOO, ResNet
from symport_recipes.runner import RowExperiment
from symport_recipes.setups import Bench

SEEDS = 50
TRANSFORMERS = ("ViT", "GPT2", "Llama", "Mixtral", "Mamba")
WIDTHS = ((3, 5), (30, 50), (64, 128))


@dataclass(frozen=True)
class Count:
    """Number of seeds that were recovered exactly.

    Attributes:
        ours: With the start that `match` takes by default.
        plain: From the identity.
        seconds: Of one match by default, on average, as process time.
    """

    ours: int
    plain: int
    seconds: float


class ResidualMLP(nn.Module):
    """Blocks x + W₂ relu(W₁ x) between two linear layers, without biases."""

    def __init__(self, width: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(7, width, bias=False), nn.Linear(width, 4, bias=False)
        self.up = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(hidden, width, bias=False) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.first(x)
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(up(x).relu())
        return self.last(x)


def resnet_50() -> tuple[nn.Module, PermutationSpec]:
    """A ResNet-50 of an eighth of the width."""
    model = ResNet((3, 4, 6, 3), base=8, bottleneck=True)
    return model, discover(model, torch.zeros(1, 3, 32, 32), strict=True)


def residual(width: int, hidden: int, blocks: int) -> tuple[nn.Module, PermutationSpec]:
    """A residual perceptron."""
    model = ResidualMLP(width, hidden, blocks)
    return model, discover(model, torch.zeros(2, 7), strict=True)


def from_zoo(name: str) -> tuple[nn.Module, PermutationSpec]:
    """An architecture of the zoo."""
    found = next(architecture for architecture in ZOO if architecture.name == name)
    model = found.make()
    return model, discover(
        model, found.inputs, strict=True, select=found.select, moving=found.moving
    )


def drawn(model: nn.Module, generator: Generator) -> dict[str, Tensor]:
    """Random weights, the same where the model ties them."""
    seen: dict[object, Tensor] = {}
    result: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        key = tensor.data_ptr(), tensor.shape
        if key not in seen:
            real = tensor.is_floating_point()
            seen[key] = torch.randn(tensor.shape, generator=generator) if real else tensor
        result[name] = seen[key]
    return result


def count_exact(model: nn.Module, spec: PermutationSpec, seeds: int, *, plain: bool = False) -> int:
    """Number of seeds for which every group is recovered as planted.

    Args:
        model: Its weights are drawn anew for each seed.
        spec: Its symmetry.
        seeds: How many to try.
        plain: Start from the identity.
    """
    start = Permutation.identity(spec) if plain else None
    return sum(_is_exact(model, spec, seed, start) for seed in range(seeds))


def _is_exact(
    model: nn.Module, spec: PermutationSpec, seed: int, start: Permutation | None
) -> bool:
    generator = Generator().manual_seed(seed)
    source = drawn(model, generator)
    planted = Permutation.random(spec, generator)
    pairs = weights(permute(source, spec, planted), source, spec)
    return match(spec, pairs, start=start).permutation.equal(planted)


def count(model: nn.Module, spec: PermutationSpec, seeds: int) -> Count:
    """Both counts for one network."""
    begun = time.process_time()
    ours = count_exact(model, spec, seeds)
    seconds = (time.process_time() - begun) / seeds
    return Count(ours, count_exact(model, spec, seeds, plain=True), seconds)


def networks() -> Mapping[str, Callable[[], tuple[nn.Module, PermutationSpec]]]:
    """What is tried, by name."""
    small = {
        f"residual MLP {width}, {hidden}, {blocks} blocks": lambda w=width, h=hidden, b=blocks: (
            residual(w, h, b)
        )
        for width, hidden in WIDTHS
        for blocks in (2, 3)
    }
    return {
        **small,
        **{name: lambda n=name: from_zoo(n) for name in TRANSFORMERS},
        "ResNet-50, width 8": resnet_50,
    }


@dataclass(frozen=True)
class Recovered:
    """The counts for a network.

    Attributes:
        network: Its name.
        groups: Number of its groups.
        seeds: How many were tried.
        ours: As `Count.ours`.
        plain: As `Count.plain`.
        seconds: As `Count.seconds`.
    """

    network: str
    groups: int
    seeds: int
    ours: int
    plain: int
    seconds: float


@dataclass(frozen=True)
class Planted(RowExperiment[Recovered]):
    """Permutations planted in networks; a case is a network and a number of seeds."""

    seeds = SEEDS
    workers = 1
    file = "planted.json"
    kind = Recovered
    key = ("network", "seeds")

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[Any, ...]]:
        """Every network."""
        return [(name, len(seeds)) for name in networks()]

    def measure(self, case: tuple[Any, ...], bench: Bench) -> Recovered:  # noqa: ARG002
        """Count the seeds that are recovered exactly."""
        name, seeds = case
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model, spec = networks()[name]()
        found = count(model, spec, seeds)
        return Recovered(name, len(spec.groups), seeds, found.ours, found.plain, found.seconds)

    def publish(self, folder: Path) -> Sequence[Path]:
        """Write `planted.txt`, a line for each network."""
        records = self.records(folder / self.file)
        if records:
            write_text(folder / "planted.txt", "".join(map(line, records)))
        return (folder / "planted.txt",) if records else ()


def line(found: Recovered) -> str:
    """The line of a network, its end included."""
    return (
        f"{found.network:32} {found.groups:3} groups  exact {found.ours:2} of {found.seeds}, "
        f"from the identity {found.plain:2}  {found.seconds:6.2f} s a match\n"
    )
