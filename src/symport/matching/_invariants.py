"""Where to start a search for a permutation: at one found from invariants.

Coordinate ascent from the identity can end in a poor local optimum, even between a network and a
permuted copy of itself. The start is therefore assigned by features of each unit that no
permutation of the other groups changes: its values where it is the only moving axis of a tensor,
and elsewhere the mean and norms of its values along the other moving axes. Between a network and
its permuted copy this start is already the answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from symport.distributed import all_reduce_, full_tensor
from symport.matching._bilinear import gram
from symport.matching._pair import LinearTerm, Pair
from symport.matching._unfolding import cut
from symport.matching._wreath import Facet, assign_tree
from symport.params import inner
from symport.spec import Permutation, PermutationSpec, permute

ROUND_OFF = 1e-6  # relative: invariants are sums of float32
COPY_COSINE = 0.5  # between target and permuted source: copies reach 1, independent networks 0.1


def best_start(spec: PermutationSpec, pairs: Sequence[Pair]) -> Permutation:
    """The permutation of `invariant_start` if the networks are copies under it, or the identity.

    Copies are networks for which Σ w ⟨target, P(source)⟩ reaches half of Σ w |target| |source|. If
    they are so in their present order, the start is the identity.

    Args:
        spec: The symmetry of the network.
        pairs: What will be matched; finite, and of the shapes that the spec describes.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> pair = Pair({"w": torch.tensor([1.0, 9.0])}, {"w": torch.tensor([9.0, 1.0])})
        >>> best_start(spec, [pair]).indices["h"]
        tensor([1, 0])
    """
    identity = Permutation.identity(spec)
    enough = COPY_COSINE * sum(_bound(spec, pair) for pair in pairs)
    if _objective(spec, pairs, identity) >= enough:
        return identity
    found = invariant_start(spec, pairs)
    return found if _objective(spec, pairs, found) >= enough else identity


def invariant_start(spec: PermutationSpec, pairs: Sequence[Pair | LinearTerm]) -> Permutation:
    """Assign every tree of groups by invariants: features that no other tree's permutation changes.

    Args:
        spec: The symmetry of the network.
        pairs: What will be matched; finite, and of the shapes that the spec describes.

    Example:
        >>> spec = PermutationSpec.parse({"w": "a b"}, sizes={"a": 2, "b": 3})
        >>> source = {"w": torch.tensor([[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]])}
        >>> target = {"w": source["w"].flip(0, 1)}
        >>> invariant_start(spec, [Pair(target, source)]).indices
        {'a': tensor([1, 0]), 'b': tensor([2, 1, 0])}
    """
    trees = spec.trees()
    facets: dict[str, dict[Facet, Tensor]] = {tree: {} for tree in trees}
    for pair in pairs:
        if isinstance(pair, LinearTerm):
            _add_linear_term(pair, facets)
            continue
        for name in spec.matched(pair.target):
            _add_tensor(spec, pair, name, facets)
    identity = Permutation.identity(spec).indices
    found: dict[str, Tensor] = {}
    for tree, groups in trees.items():
        start = {group: identity[group] for group in groups}
        found |= assign_tree(spec, tree, facets[tree], start).indices
    return Permutation(found)


def _add_linear_term(term: LinearTerm, facets: dict[str, dict[Facet, Tensor]]) -> None:
    """Add pairs that have been summed before, over all processes."""
    for tree, own in term.facets.items():
        for facet in sorted(own):
            gain = own[facet].double()
            all_reduce_([gain])
            known = facets[tree].get(facet)
            facets[tree][facet] = gain if known is None else known.add_(gain)


def _add_tensor(
    spec: PermutationSpec, pair: Pair, name: str, facets: dict[str, dict[Facet, Tensor]]
) -> None:
    """Add the similarity of each slot of one tensor."""
    whole_target, whole_source = full_tensor(pair.target[name]), full_tensor(pair.source[name])
    for part in cut(name, tuple(whole_target.shape), spec):
        target, source = part.lay_out(whole_target), part.lay_out(whole_source)
        for k, slot in enumerate(part.slots):
            alone = len(part.slots) == 1
            gain = gram(target, source, k) if alone else invariant_similarity(target, source, k)
            known = facets[slot.tree].get(slot.facet)
            gain *= pair.weight
            facets[slot.tree][slot.facet] = gain if known is None else known.add_(gain)


def invariant_similarity(target: Tensor, source: Tensor, slot: int) -> Tensor:
    """The similarity of one slot by features that no permutation of the other slots changes.

    The inner products of standardised features, on the scale of those of the values.

    Args:
        target: Shape `(rest, n_1, …, n_m)`, m at least 2.
        source: Shape `(rest, n_1, …, n_m)`.
        slot: Which slot, from 0.

    Returns:
        Shape `(n_slot, n_slot)`, float64.

    Example:
        >>> from symport.matching import assign
        >>> target = torch.tensor([[[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]])
        >>> assign(invariant_similarity(target, target.flip(1, 2), slot=0))
        tensor([1, 0])
    """
    a, b = _features(target, slot), _features(source, slot)
    both = torch.cat([a, b])
    spread, size = both.std(0, correction=0), both.abs().amax(0)
    # A feature that is the same for all units up to round-off does not count.
    scale = torch.where(spread > ROUND_OFF * size, spread, torch.inf)
    share = _norm(target) * _norm(source) / both.numel()
    return (a / scale) @ (b / scale).T * share


def _features(tensor: Tensor, slot: int) -> Tensor:
    """Mean, 1-norm and 2-norm of each unit along the other slots, for each index of the rest.

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
