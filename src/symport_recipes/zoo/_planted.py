"""How often `match` recovers a permutation that was planted, by weights alone.

    python -m symport_recipes.zoo._planted > docs/results/planted.txt

A network with random weights is permuted by a random element of its whole group, and matched to
itself as it was. A seed counts if every group comes out exactly, nested ones included. Beside it:
the same search without its start from what permutations cannot change, that is, plain coordinate
ascent from the identity, as the papers have it.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from symport.matching import match, weights
from symport.spec import Permutation, PermutationSpec, permute
from symport.symmetry import discover
from symport_recipes.networks import ZOO, ResNet

SEEDS = 50
TRANSFORMERS = ("ViT", "GPT2", "Llama", "Mixtral", "Mamba")
WIDTHS = ((3, 5), (30, 50), (64, 128))


@dataclass(frozen=True)
class Count:
    """How many seeds came out exactly.

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
    """How many of the seeds give back every group as it was planted.

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


def main(seeds: int) -> None:
    """Print a line for each network."""
    torch.set_num_threads(1)
    for name, make in networks().items():
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model, spec = make()
        found = count(model, spec, seeds)
        print(
            f"{name:32} {len(spec.groups):3} groups  exact {found.ours:2} of {seeds}, "
            f"from the identity {found.plain:2}  {found.seconds:6.2f} s a match",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    main(parser.parse_args().seeds)
