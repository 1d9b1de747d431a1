"""Assign the units of nested groups exactly, from the inside out.

A group and the groups nested in it form a tree. Placing source block j at target position i gains
what the best inner assignment of the pair (i, j) gains, so the inner values are the similarity of
the outer assignment (a wreath product needs no search).

A *facet* is a tuple of groups of one tree, parents before children, that some tensor varies over;
its similarity is a square matrix over all combinations of their units. Only a facet that contains
two children of one parent (query heads and value units, say) couples two inner assignments; those
are improved in turn until neither changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from symport.matching._assignment import assign
from symport.spec import PermutationSpec, parents

Facet: TypeAlias = tuple[str, ...]
Similarities: TypeAlias = Mapping[Facet, Tensor]
Indices: TypeAlias = Mapping[str, Tensor]

MAX_ROUNDS = 20  # of improving coupled inner assignments in turn; two or three suffice


@dataclass(frozen=True, eq=False)
class TreeAssignment:
    """The best assignment found for a tree of groups.

    Attributes:
        indices: One int64 tensor for each group, of shape `spec.shape_of(group)`.
        value: The summed similarity.

    Example:
        >>> TreeAssignment({"h": torch.tensor([1, 0])}, 10.0).value
        10.0
    """

    indices: Indices
    value: float


def assign_tree(
    spec: PermutationSpec, top: str, similarities: Similarities, start: Indices
) -> TreeAssignment:
    """Maximise the summed similarity of a tree of groups.

    Args:
        spec: Gives the sizes and kinds of the groups.
        top: The root of the tree.
        similarities: For each facet, the gain of placing source unit `j` at target position `i`,
            float64, shape `(n, n)` with n the product of the facet's sizes, row-major.
        start: The current indices of each group, kept where there are ties.

    Returns:
        The exact optimum, unless two children of one group are coupled by a facet.

    Raises:
        ParamsError: A similarity holds NaN or infinity.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> gain = torch.tensor([[0.0, 5.0], [5.0, 1.0]], dtype=torch.float64)
        >>> assign_tree(spec, "h", {("h",): gain}, {"h": torch.tensor([0, 1])})
        TreeAssignment(indices={'h': tensor([1, 0])}, value=10.0)
    """
    shaped = {facet: _shaped(matrix, facet, spec) for facet, matrix in similarities.items()}
    return _solve(spec, top, shaped, start)


def _shaped(matrix: Tensor, facet: Facet, spec: PermutationSpec) -> Tensor:
    """Lay a facet's matrix out as `(target sizes..., source sizes...)`."""
    sizes = [spec.groups[name].size for name in facet]
    return matrix.reshape(*sizes, *sizes)


def _solve(
    spec: PermutationSpec, node: str, facets: Similarities, start: Indices
) -> TreeAssignment:
    """Solve below `node`, the first group of every facet; `start` has no axes for its parents."""
    n = spec.groups[node].size
    fixed = spec.groups[node].kind == "fixed"
    gains = facets.get((node,), torch.zeros(n, n, dtype=torch.float64))
    deeper = {facet: gain for facet, gain in facets.items() if len(facet) > 1}
    below = [g for g in start if node in parents(g)]
    if not below:
        return _assign_leaf(node, gains, start[node], fixed=fixed)
    gains = gains.clone()
    inner: dict[tuple[int, int], TreeAssignment] = {}
    for i in range(n):
        row = {g: start[g][i] for g in below}
        for j in [i] if fixed else range(n):
            cut = {f[1:]: gain.select(len(f), j)[i] for f, gain in deeper.items()}  # views
            inner[i, j] = _solve_children(spec, node, cut, row)
            gains[i, j] += inner[i, j].value
    outer = _assign_leaf(node, gains, start[node], fixed=fixed)
    chosen = [inner[i, j].indices for i, j in enumerate(outer.indices[node].tolist())]
    stacked = {g: torch.stack([indices[g] for indices in chosen]) for g in below}
    return TreeAssignment({**outer.indices, **stacked}, outer.value)


def _assign_leaf(node: str, gains: Tensor, start: Tensor, *, fixed: bool) -> TreeAssignment:
    index = torch.arange(len(gains)) if fixed else assign(gains, start)
    return TreeAssignment({node: index}, float(gains.gather(1, index[:, None]).sum()))


def _solve_children(
    spec: PermutationSpec, node: str, facets: Similarities, start: Indices
) -> TreeAssignment:
    """Solve the children of one pair of blocks, each on its own unless facets couple them."""
    family = {
        child: [g for g in start if g == child or child in parents(g)]
        for child in start
        if parents(child)[-1] == node
    }
    coupled = {f: gain for f, gain in facets.items() if len({_child(g, family) for g in f}) > 1}
    indices, value = dict(start), -math.inf
    for turn in range(MAX_ROUNDS):
        for members in family.values():
            own = {f: gain for f, gain in facets.items() if f[0] in members and f not in coupled}
            # The first turn uses each child's own facets alone: a start for the coupled ones.
            if turn > 0 or not own:
                own = _add_coupled(own, coupled, members, indices)
            child = _solve(spec, members[0], own, {g: indices[g] for g in members})
            indices.update(child.indices)
        before, value = value, sum(_gain(f, gain, indices) for f, gain in facets.items())
        if not coupled or (turn > 0 and value <= before):
            break
    return TreeAssignment(indices, value)


def _child(group: str, family: Mapping[str, Sequence[str]]) -> str:
    return next(child for child, members in family.items() if group in members)


def _add_coupled(
    own: Similarities, coupled: Similarities, members: Sequence[str], indices: Indices
) -> Similarities:
    """Add to a child's facets the coupled ones, the other children fixed at their indices."""
    result = dict(own)
    for facet, gain in coupled.items():
        keep = tuple(g for g in facet if g in members)
        if keep:
            summed = _sum_out(facet, gain, keep, indices)
            result[keep] = result[keep] + summed if keep in result else summed
    return result


def _sum_out(facet: Facet, gain: Tensor, keep: Facet, indices: Indices) -> Tensor:
    """Sum over the units of the groups that are not kept, assigned as in `indices`."""
    kept = [k for k, g in enumerate(facet) if g in keep]
    rest = [k for k, g in enumerate(facet) if g not in keep]
    source = [len(facet) + k for k in (*kept, *rest)]
    sizes = [gain.shape[k] for k in kept]
    others = facet_index([facet[k] for k in rest], indices)
    flat = gain.permute(*kept, *rest, *source)
    flat = flat.reshape(math.prod(sizes), len(others), math.prod(sizes), len(others))
    return flat[:, torch.arange(len(others)), :, others].sum(0).reshape([*sizes, *sizes])


def _gain(facet: Facet, gain: Tensor, indices: Indices) -> float:
    return float(_sum_out(facet, gain, (), indices))


def facet_index(facet: Sequence[str], indices: Indices) -> Tensor:
    """The source unit at each position of a facet, both counted row-major.

    Args:
        facet: Groups, parents before children.
        indices: Indices of each group, `(sizes of its parents..., size)`; axes for parents outside
            of the facet are left out.

    Returns:
        Shape `(n,)`, int64, n the product of the sizes.

    Example:
        >>> indices = {"a": torch.tensor([1, 0]), "a/b": torch.tensor([[0, 1], [1, 0]])}
        >>> facet_index(["a", "a/b"], indices)
        tensor([2, 3, 1, 0])
    """
    flat = torch.zeros((), dtype=torch.int64)
    for dim, group in enumerate(facet):
        index = indices[group]
        chain = parents(group)[len(parents(group)) - index.ndim + 1 :]
        shape = [1] * (dim + 1)
        for place, length in zip([*map(facet.index, chain), dim], index.shape, strict=True):
            shape[place] = length
        flat = flat.unsqueeze(-1) * index.shape[-1] + index.reshape(shape)
    return flat.reshape(-1)
