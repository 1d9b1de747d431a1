"""What `discover` finds in the architectures of the zoo, and the proof of it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from symport.spec import Axis, Block, PermutationSpec, axis_blocks
from symport.symmetry import discover, verify
from symport_recipes.networks import Architecture


@dataclass(frozen=True)
class Finding:
    """What `discover` found.

    Attributes:
        name: Of the architecture.
        groups: Their number, those that stay but hold others not counted.
        sizes: Of each group; `4/8` is 8 units inside each of 4.
        share: Of all parameters, those that some element of the group moves; in [0, 1].
        seconds: Of `discover`, the proof included.
        error: Of the outputs under random elements of the whole group, relative.
    """

    name: str
    groups: int
    sizes: str
    share: float
    seconds: float
    error: float


@dataclass(frozen=True, eq=False)
class Found:
    """A network, its symmetry, and a row of the table.

    Attributes:
        model: With random weights.
        spec: Its symmetry, proven.
        finding: Its row.
    """

    model: nn.Module
    spec: PermutationSpec
    finding: Finding


def measure(architecture: Architecture) -> Found:
    """Find the symmetry of one architecture and prove it.

    Raises:
        DiscoveryError: It cannot be traced, or a group fails its proof.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = architecture.make()
    select = architecture.select
    start = time.process_time()
    moving = architecture.moving
    spec = discover(model, architecture.inputs, strict=True, select=select, moving=moving)
    seconds = time.process_time() - start
    # Other elements than those of the proof inside, and other weights.
    generator = Generator().manual_seed(1)
    proof = verify(spec, model, architecture.inputs, generator=generator, select=select)
    state = dict(model.named_parameters())
    found = Finding(
        architecture.name,
        len(_free(spec)),
        show_sizes(spec),
        moving_share(spec, state),
        seconds,
        proof.error,
    )
    return Found(model, spec, found)


def show_sizes(spec: PermutationSpec) -> str:
    """The sizes of all groups, equal ones counted.

    Example:
        >>> show_sizes(PermutationSpec.parse({"w": "a b", "v": "c c/u"}, sizes={
        ...     "a": 4, "b": 4, "c": 2, "c/u": 3}))
        '2×4, 2, 2/3'
    """
    shapes = Counter("/".join(map(str, spec.shape_of(name))) for name in _free(spec))
    return ", ".join(f"{n}×{shape}" if n > 1 else shape for shape, n in shapes.items())


def moving_share(spec: PermutationSpec, params: Mapping[str, Tensor]) -> float:
    """The share of all entries that some element of the group moves.

    Example:
        >>> spec = PermutationSpec.parse({"w": "a .", "b": "."}, sizes={"a": 2})
        >>> moving_share(spec, {"w": torch.zeros(2, 3), "b": torch.zeros(2)})
        0.75
    """
    free = _free(spec)
    moving = total = 0.0
    for name, tensor in params.items():
        stays = 1.0
        for axis, length in zip(spec.patterns[name], tensor.shape, strict=True):
            stays *= 1 - _axis_share(axis, length, spec, free)
        moving += tensor.numel() * (1 - stays)
        total += tensor.numel()
    return moving / total


def _axis_share(axis: Axis, length: int, spec: PermutationSpec, free: Iterable[str]) -> float:
    blocks: list[Block] = axis_blocks(axis, length, spec.sizes)
    moved = sum(b.positions.numel() for b in blocks if set(b.labels) & set(free))
    return moved / length if length else 0.0


def _free(spec: PermutationSpec) -> list[str]:
    """The groups that can move something."""
    return [n for n, group in spec.groups.items() if group.kind != "fixed" and group.size > 1]
