"""A plain implementation of the matching of Algorithm 2 (FGMT), as a baseline.

At step s the objective is the sum over all pairs t ≤ s of <target_t, P(source_t)> (Chijiwa 2024,
problem P′_s). It is maximised one group at a time in random order. Each is a linear assignment
problem, whose similarity is recomputed from all pairs (Ainsworth et al. 2022, Algorithm 1), until
a sweep over the groups changes nothing. It supports patterns whose axes are `.`, a group, or
`(group k)`, with a group on at most one axis of a tensor.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from symport.errors import SpecError
from symport.params import Params
from symport.spec import (
    Axis,
    Fixed,
    Permutation,
    PermutationSpec,
    Product,
    Unit,
    permute,
    show_pattern,
)

TOLERANCE = 1e-9  # relative gain below which float32 products cannot distinguish two assignments


@dataclass(frozen=True, eq=False)
class PlainResult:
    """The result of the plain loop, with its cost.

    Attributes:
        permutations: π_s after each step s.
        objective: The objective of the last permutation over all pairs, summed in float64.
        sweeps: Passes over the groups, one number for each step.
        similarity_seconds: Time in permuting and multiplying gradients.
        solve_seconds: Time in the assignment solver.
    """

    permutations: list[Permutation]
    objective: float
    sweeps: list[int]
    similarity_seconds: float
    solve_seconds: float


def match_plain(
    pairs: Iterable[tuple[Params, Params]],
    spec: PermutationSpec,
    *,
    seed: int = 0,
    from_identity: bool = False,
) -> PlainResult:
    """Find a permutation after each new pair.

    Args:
        pairs: (target, source) gradients, one pair for each step; all are kept.
        spec: The symmetry.
        seed: Of the order of the groups.
        from_identity: Begin each step at the identity, as the paper does, instead of at the
            previous step's permutation.

    Raises:
        SpecError: A pattern is of a kind that this loop does not know.
    """
    places = _places(spec)
    generator = Generator().manual_seed(seed)
    clock = _Clock()
    current = dict(Permutation.identity(spec).indices)
    seen: list[tuple[Params, Params]] = []
    permutations: list[Permutation] = []
    sweeps: list[int] = []
    for pair in pairs:
        seen.append(pair)
        if from_identity:
            current = dict(Permutation.identity(spec).indices)
        sweeps.append(_descend(seen, places, current, generator, clock))
        permutations.append(Permutation(dict(current)))
    objective = evaluate(seen, spec, Permutation(current))
    return PlainResult(permutations, objective, sweeps, clock.similarity, clock.solve)


def evaluate(
    pairs: Sequence[tuple[Params, Params]], spec: PermutationSpec, permutation: Permutation
) -> float:
    """The sum over pairs and tensors of <target, P(source)>, in float64."""
    total = 0.0
    for target, source in pairs:
        moved = permute(source, spec, permutation)
        total += sum(float((target[name].double() * moved[name].double()).sum()) for name in moved)
    return total


class _Clock:
    """Seconds spent in each of the two halves of the work."""

    similarity = 0.0
    solve = 0.0


def _descend(
    pairs: Sequence[tuple[Params, Params]],
    places: Mapping[str, Mapping[int, tuple[str, int]]],
    current: dict[str, Tensor],
    generator: Generator,
    clock: _Clock,
) -> int:
    """Sweep over the groups until nothing changes; `current` is updated. Returns the sweeps."""
    groups = list(current)
    count = 0
    changed = True
    while changed:
        changed = False
        count += 1
        for k in torch.randperm(len(groups), generator=generator).tolist():
            group = groups[k]
            began = time.perf_counter()
            similarity = _similarity(pairs, places, current, group)
            middle = time.perf_counter()
            _, columns = linear_sum_assignment(similarity.numpy(), maximize=True)
            clock.similarity += middle - began
            clock.solve += time.perf_counter() - middle
            found = torch.as_tensor(columns)
            before, after = _value(similarity, current[group]), _value(similarity, found)
            if after > before + TOLERANCE * abs(before):
                current[group] = found
                changed = True
    return count


def _similarity(
    pairs: Sequence[tuple[Params, Params]],
    places: Mapping[str, Mapping[int, tuple[str, int]]],
    current: Mapping[str, Tensor],
    group: str,
) -> Tensor:
    """Gain of placing source unit j at position i, all other groups fixed."""
    size = len(current[group])
    total = torch.zeros(size, size, dtype=torch.float64)
    for target, source in pairs:
        for name, axes in places.items():
            own = [dim for dim, (other, _) in axes.items() if other == group]
            if not own or name not in target:
                continue
            moved = source[name]
            for dim, (other, repeat) in axes.items():
                if other != group:
                    moved = moved.index_select(dim, _expanded(current[other], repeat))
            total += _rows(target[name], own[0], size) @ _rows(moved, own[0], size).T
    return total


def _rows(tensor: Tensor, dim: int, size: int) -> Tensor:
    """One row for each unit of the group on axis `dim`, float32."""
    return tensor.movedim(dim, 0).reshape(size, -1)


def _expanded(index: Tensor, repeat: int) -> Tensor:
    """Positions on an axis where each unit has `repeat` adjacent positions."""
    return (index[:, None] * repeat + torch.arange(repeat)).flatten()


def _value(similarity: Tensor, index: Tensor) -> float:
    return float(similarity[torch.arange(len(index)), index].sum())


def _places(spec: PermutationSpec) -> dict[str, dict[int, tuple[str, int]]]:
    """For each tensor: moving axis → (group, adjacent positions of each unit)."""
    result: dict[str, dict[int, tuple[str, int]]] = {}
    for name, pattern in spec.patterns.items():
        known = {dim: _place(name, axis) for dim, axis in enumerate(pattern)}
        moving = {dim: place for dim, place in known.items() if place is not None}
        if len({group for group, _ in moving.values()}) < len(moving):
            raise SpecError(f"{name}: '{show_pattern(pattern)}' names a group twice")
        if moving and name not in spec.buffers:
            result[name] = moving
    return result


def _place(name: str, axis: Axis) -> tuple[str, int] | None:
    match axis:
        case Fixed():
            return None
        case Unit(group) if "/" not in group:
            return group, 1
        case Product((Unit(group), Fixed(int(repeat)))) if "/" not in group:
            return group, repeat
        case _:
            raise SpecError(f"{name}: the plain loop does not know '{show_pattern((axis,))}'")
