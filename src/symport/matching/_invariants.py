"""Where to start a search for a permutation.

Coordinate ascent from the identity can get caught, even between a network and a permuted copy of
itself. What a permutation cannot change tells where to begin: tensors with a single moving axis
count as they are, and of the others each unit is described by mean and norms of its values along
the other moving axes. Between a network and its permuted copy this start is already the answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from symport.distributed import add_up, whole
from symport.matching._bilinear import gram
from symport.matching._similarity import Gains, Pair
from symport.matching._unfolding import cut
from symport.matching._wreath import Facet, assign_tree
from symport.params import inner
from symport.spec import Permutation, PermutationSpec, permute

ROUND_OFF = 1e-6  # relative: descriptions are sums of float32
ALIKE = 0.5  # of what a perfect match would reach: copies reach 1, independent networks 0.1


def best_start(spec: PermutationSpec, pairs: Sequence[Pair]) -> Permutation:
    """`invariant_start` if the networks are alike under it, otherwise the identity.

    Alike means that Σ w ⟨target, P(source)⟩ reaches half of Σ w |target| |source|. Networks that
    are alike as they stand keep the identity.
    """
    identity = Permutation.identity(spec)
    enough = ALIKE * sum(_bound(spec, pair) for pair in pairs)
    if _objective(spec, pairs, identity) >= enough:
        return identity
    found = invariant_start(spec, pairs)
    return found if _objective(spec, pairs, found) >= enough else identity


def invariant_start(spec: PermutationSpec, pairs: Sequence[Pair | Gains]) -> Permutation:
    """Assign every tree of groups by what no permutation of the other trees can change."""
    trees = spec.trees()
    facets: dict[str, dict[Facet, Tensor]] = {tree: {} for tree in trees}
    for pair in pairs:
        if isinstance(pair, Gains):
            _count_in(pair, facets)
            continue
        for name in spec.matched(pair.target):
            _describe(spec, pair, name, facets)
    identity = Permutation.identity(spec).indices
    found: dict[str, Tensor] = {}
    for tree, groups in trees.items():
        start = {group: identity[group] for group in groups}
        found |= assign_tree(spec, tree, facets[tree], start).indices
    return Permutation(found)


def _count_in(gains: Gains, facets: dict[str, dict[Facet, Tensor]]) -> None:
    """Add what pairs said that are no longer there, the shares of all processes."""
    for tree, own in gains.facets.items():
        for facet in sorted(own):
            gain = own[facet].double()
            add_up([gain])
            known = facets[tree].get(facet)
            facets[tree][facet] = gain if known is None else known.add_(gain)


def _describe(
    spec: PermutationSpec, pair: Pair, name: str, facets: dict[str, dict[Facet, Tensor]]
) -> None:
    """Add what one tensor says about each of its slots."""
    whole_target, whole_source = whole(pair.target[name]), whole(pair.source[name])
    for part in cut(name, tuple(whole_target.shape), spec):
        target, source = part.lay_out(whole_target), part.lay_out(whole_source)
        for k, slot in enumerate(part.slots):
            alone = len(part.slots) == 1
            gain = gram(target, source, k) if alone else described_similarity(target, source, k)
            known = facets[slot.tree].get(slot.facet)
            gain *= pair.weight
            facets[slot.tree][slot.facet] = gain if known is None else known.add_(gain)


def described_similarity(target: Tensor, source: Tensor, slot: int) -> Tensor:
    """What tensors laid out as `(rest, n_1, …, n_m)` say about one slot, whatever the others do.

    Inner products of standardised descriptions, on the scale of those of the values.
    """
    a, b = _description(target, slot), _description(source, slot)
    both = torch.cat([a, b])
    spread, size = both.std(0, correction=0), both.abs().amax(0)
    # What all units share up to round-off tells nothing, and counts nothing.
    scale = torch.where(spread > ROUND_OFF * size, spread, torch.inf)
    share = _norm(target) * _norm(source) / both.numel()
    return (a / scale) @ (b / scale).T * share


def _description(tensor: Tensor, slot: int) -> Tensor:
    """Mean, sum of |x| and root of the sum of x² along the other slots, for each place of the rest.

    Shape `(units, 3 rest)`, float64 on the CPU.
    """
    wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    others = [dim for dim in range(1, wide.ndim) if dim != slot + 1]
    found = [wide.mean(others), *(torch.linalg.vector_norm(wide, p, others) for p in (1, 2))]
    return torch.cat(found).T.double().cpu()


def _bound(spec: PermutationSpec, pair: Pair) -> float:
    names = spec.matched(pair.target)
    squares = [sum(_norm(side[name]) ** 2 for name in names) for side in (pair.target, pair.source)]
    return pair.weight * (squares[0] * squares[1]) ** 0.5


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def _objective(spec: PermutationSpec, pairs: Sequence[Pair], start: Permutation) -> float:
    total = 0.0
    for pair in pairs:
        names = spec.matched(pair.target)
        moved = permute({name: pair.source[name] for name in names}, spec, start, partial=True)
        total += pair.weight * inner({name: pair.target[name] for name in names}, moved)
    return total
