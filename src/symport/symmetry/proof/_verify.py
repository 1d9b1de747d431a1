"""Prove a spec: elements of its group must leave the network's function unchanged.

Everything runs in float64 on copies whose parameters and statistics are drawn at random around
their values. The tolerance is measured: a jitter of the weights in their last places shows how much
the random network amplifies rounding. Visibility is measured too: a group on which the outputs do
not depend could be wrong without any effect.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from symport.spec import Permutation, PermutationSpec, axis_blocks, groups_in, permute, root
from symport.symmetry.graph import SPREAD, Example, check_arguments
from symport.symmetry.proof._elements import elements, moves, restricted
from symport.symmetry.proof._trial import (
    TOLERANCE,
    VISIBLE,
    Deviation,
    Network,
    Select,
    Trial,
    steady_trial,
)

__all__ = ["TOLERANCE", "Proof", "Select", "verify"]

DRAWS = 3  # of weights, for groups that have no visible effect in the first
Places = Mapping[str, Mapping[str, Sequence[tuple[int, Tensor]]]]


@dataclass(frozen=True)
class Proof:
    """The result of a proof.

    Attributes:
        error: Largest relative error of any output under an element of the whole group.
        failed: Roots of the trees that change the function, with the relative error of each.
        unseen: Groups whose effect on the outputs is lost in rounding, so that they are neither
            proven nor refuted. Groups on which no output depends at all are not among them.

    Example:
        >>> Proof(error=1e-15, failed={}).unseen
        ()
    """

    error: float
    failed: Mapping[str, float]
    unseen: Collection[str] = field(default_factory=tuple[str, ...])


def verify(
    spec: PermutationSpec,
    model: nn.Module,
    example_inputs: Any,
    *,
    generator: Generator | None = None,
    select: Select | None = None,
) -> Proof:
    """Prove that permuting by elements of the group leaves the outputs unchanged.

    Each element moves some of the groups, so that no two groups always move together, and the
    elements that move a group generate all its permutations. Their number grows with the logarithm
    of the number of groups, from 4 to 8. Groups that have no visible effect with one draw of the
    weights (a ReLU may be dead) are tried with others.

    Args:
        spec: The symmetry to prove.
        model: Left unchanged. Its weights must have values, so not be on the meta device.
        example_inputs: A tensor, a tuple of positional or a mapping of keyword arguments.
            Floating-point ones are converted to float64, integers (tokens) are not. If all entries
            of one are equal, random ones take their place, so an example of zeros suffices.
        generator: Draws weights and permutations; seed 0 by default.
        select: Picks the outputs to compare from what the model returns; all by default.
            Floating-point and complex outputs may differ by rounding, integers not at all.

    Returns:
        The proof; `failed` is empty if the whole group passed, `unseen` if all of it is visible.

    Raises:
        DiscoveryError: The weights are on the meta device, no output is a floating-point tensor,
            none is finite, or rounding is amplified so much that errors cannot be distinguished.
        SpecError: The spec does not fit the model.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> words = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> spec = PermutationSpec.parse(words, like=net.state_dict())
        >>> verify(spec, net, torch.ones(5, 4)).failed
        {}
    """
    generator = generator or torch.Generator().manual_seed(0)
    check_arguments(model, example_inputs)
    network = Network(model, Example.of(example_inputs), select)
    spec.check(network.saved.tensors)
    error, failed = 0.0, dict[str, float]()
    hidden: Mapping[str, bool] = {n: True for n, group in spec.groups.items() if moves(group)}
    for _ in range(DRAWS):
        trial = steady_trial(network, spec.buffers, generator)
        for element in elements(spec, generator):
            found, worst = _blamed(trial, spec, element, failed)
            error = max(error, worst)
            failed |= found
        hidden = _hidden(trial, spec, {name for name in hidden if root(name) not in failed})
        if not hidden:
            break
    return Proof(error, failed, tuple(sorted(name for name, idle in hidden.items() if not idle)))


def _blamed(
    trial: Trial, spec: PermutationSpec, element: Permutation, known: Collection[str]
) -> tuple[dict[str, float], float]:
    """The trees that an element refutes, besides known ones, and its largest error."""
    failed = dict[str, float]()
    worst = 0.0
    while True:
        left = [name for name in spec.trees() if name not in known and name not in failed]
        found = _moved(trial, spec, element, left)
        worst = max(worst, found.error)
        if found.passes:
            return failed, worst
        failed |= _faulty(trial, spec, element, left, found)


def _faulty(
    trial: Trial,
    spec: PermutationSpec,
    element: Permutation,
    roots: Sequence[str],
    found: Deviation,
) -> dict[str, float]:
    """Find the failing trees by halving; all are reported if neither half fails on its own."""
    if len(roots) == 1:
        return {roots[0]: found.error}
    failed = dict[str, float]()
    for half in (roots[: len(roots) // 2], roots[len(roots) // 2 :]):
        part = _moved(trial, spec, element, half)
        if not part.passes:
            failed |= _faulty(trial, spec, element, half, part)
    return failed or dict.fromkeys(roots, found.error)


def _moved(
    trial: Trial, spec: PermutationSpec, element: Permutation, roots: Sequence[str]
) -> Deviation:
    return trial.deviation(permute(trial.state, spec, restricted(element, spec, roots)))


def _hidden(trial: Trial, spec: PermutationSpec, names: Collection[str]) -> dict[str, bool]:
    """The groups without a visible effect, and for each whether no output depends on it at all."""
    places = _places(spec, trial.state, names)
    known = trial.slopes({name for found in places.values() for name in found})
    slopes = known or {}
    clear = VISIBLE * max(trial.allowed)
    hidden = dict[str, bool]()
    for group, found in places.items():
        sizes = [_size(slopes[name], axes) for name, axes in found.items() if name in slopes]
        if not SPREAD * max(sizes, default=0.0) > clear and not trial.sees(found):
            hidden[group] = known is not None and not any(sizes)
    return hidden


def _size(slopes: Tensor, axes: Sequence[tuple[int, Tensor]]) -> float:
    """How far random changes of some positions of an axis change the outputs, over all axes."""
    return max(float(slopes.index_select(dim, at).norm()) for dim, at in axes)


def _places(spec: PermutationSpec, state: Mapping[str, Tensor], names: Collection[str]) -> Places:
    """Where groups occur: for each the tensors, and the axes and positions in each tensor."""
    found: dict[str, dict[str, list[tuple[int, Tensor]]]] = {name: {} for name in names}
    for tensor, pattern in spec.patterns.items():
        for dim, axis in enumerate(pattern if tensor in state else ()):
            for group in found.keys() & set(groups_in(axis)):
                blocks = axis_blocks(axis, state[tensor].shape[dim], spec.sizes)
                at = [b.positions.flatten() for b in blocks if group in b.labels]
                found[group].setdefault(tensor, []).append((dim, torch.cat(at)))
    return found
