"""Find the permutation of source tensors that best aligns them with target tensors.

The objective is a sum of inner products over pairs (target, source) of weight w,

    maximise over P   Σₖ wₖ ⟨targetₖ, P(sourceₖ)⟩,

which contains weight matching (one pair: the parameters) and gradient matching along a
trajectory (one pair of gradients per step). It is solved one tree of groups at a time, each being
a linear assignment problem (Ainsworth et al. 2023, eq. 3 of the paper). A work list holds the
trees whose similarity has changed; the others are not solved again.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from torch import Generator

from symport.errors import SettingsError
from symport.matching._invariants import best_start, invariant_start
from symport.matching._similarity import Gains, Pair, Similarity, check_pair
from symport.matching._wreath import Similarities, TreeAssignment, assign_tree
from symport.spec import Permutation, PermutationSpec

__all__ = ["MatchResult", "Pair", "match", "solve", "solve_afresh", "solve_from"]

TOLERANCE = 1e-7  # relative: float32 products carry no more, and a smaller gain may be noise
MAX_SOLVES_PER_TREE = 100  # a safeguard: 5 to 20 are usual


@dataclass(frozen=True)
class MatchResult:
    """A permutation and how it was reached.

    Attributes:
        permutation: What to do to the source.
        objective: Σ w ⟨target, P(source)⟩, in float64.
        solves: Number of assignment problems solved.
        converged: False if the safeguard on `solves` ended the search.
        objectives: What each start reached; the first is the given start's.
    """

    permutation: Permutation
    objective: float
    solves: int
    converged: bool
    objectives: tuple[float, ...]


def match(
    spec: PermutationSpec,
    pairs: Iterable[Pair],
    *,
    start: Permutation | None = None,
    restarts: int = 0,
    generator: Generator | None = None,
) -> MatchResult:
    """Align sources with targets by coordinate ascent over the groups.

    Args:
        spec: The symmetry of the network.
        pairs: What to align; one pair of parameters is weight matching.
        start: Where the search starts; if None, `starts.best_start` decides: the identity, unless
            the networks are alike in another order.
        restarts: Further searches from random permutations; the best is returned.
        generator: Draws the restarts; needed if there are any.

    Returns:
        A permutation that no change of a single group improves.

    Raises:
        ParamsError: A tensor holds NaN or infinity, or a pair's shapes differ.
        SpecError: A tensor has no pattern or does not fit it.
        SettingsError: Restarts without a generator, or no pairs.

    Example:
        >>> import torch
        >>> spec = PermutationSpec.parse({"w": "h ."}, sizes={"h": 2})
        >>> target = {"w": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}
        >>> source = {"w": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}
        >>> match(spec, [Pair(target, source)]).permutation.indices["h"]
        tensor([1, 0])
    """
    if restarts and generator is None:
        raise SettingsError("restarts draw random permutations: pass generator=")
    listed = list(pairs)
    if not listed:
        raise SettingsError("there is nothing to match: pass at least one pair")
    for pair in listed:
        check_pair(pair, spec)
    similarity = Similarity(spec, best_start(spec, listed) if start is None else start)
    for pair in listed:
        similarity.add(pair)
    result = solve(similarity)
    if generator is not None:
        for _ in range(restarts):
            result = solve_from(similarity, Permutation.random(spec, generator), result)
    return result


def solve(similarity: Similarity) -> MatchResult:
    """Improve one tree of groups after the other until none can gain by itself.

    Args:
        similarity: Gives the gains, and is moved to the permutation found.
    """
    solves = 0
    limit = MAX_SOLVES_PER_TREE * len(similarity.trees)
    while similarity.changed and solves < limit:
        batch = _take_independent(similarity)
        solves += len(batch)
        for tree, solved in zip(batch, _assign(similarity, batch), strict=True):
            _accept(similarity, tree, solved)
    value = similarity.objective
    return MatchResult(similarity.permutation, value, solves, not similarity.changed, (value,))


def solve_afresh(similarity: Similarity, pairs: Sequence[Pair | Gains]) -> MatchResult:
    """Solve from where it stands and from `starts.invariant_start`; stay at the better.

    For the first of several matchings: the later ones start from what it finds.

    Args:
        similarity: Gives the gains, and is moved to the permutation found.
        pairs: What has been added to it.
    """
    return solve_from(similarity, invariant_start(similarity.spec, pairs), solve(similarity))


def solve_from(similarity: Similarity, start: Permutation, best: MatchResult) -> MatchResult:
    """Solve again from another start, and stay at whichever of the two is better."""
    similarity.move_to(start)
    found = solve(similarity)
    chosen = found if found.objective > best.objective else best
    if chosen is best:
        similarity.move_to(best.permutation)
        similarity.changed.clear()
    return MatchResult(
        chosen.permutation,
        chosen.objective,
        best.solves + found.solves,
        chosen.converged,
        (*best.objectives, found.objective),
    )


def _take_independent(similarity: Similarity) -> list[str]:
    """The first waiting tree, and those after it that are neighbours of none taken."""
    taken: list[str] = []
    barred: set[str] = set()
    for tree in similarity.changed:
        if tree not in barred:
            taken.append(tree)
            barred |= {tree, *similarity.neighbours(tree)}
    similarity.changed = [tree for tree in similarity.changed if tree not in taken]
    return taken


def _assign(similarity: Similarity, trees: Sequence[str]) -> list[TreeAssignment]:
    gains = [similarity.of(tree) for tree in trees]  # not in threads: joined processes meet here

    def one(tree: str, gain: Similarities) -> TreeAssignment:
        return assign_tree(similarity.spec, tree, gain, similarity.indices(tree))

    if len(trees) == 1:
        return [one(trees[0], gains[0])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # scipy releases the GIL
        return list(pool.map(one, trees, gains))


def _accept(similarity: Similarity, tree: str, solved: TreeAssignment) -> None:
    """Take a solution that gains; a tree tied to itself may turn out not to, and goes back."""
    old = similarity.indices(tree)
    before = similarity.value(tree, old)
    slack = TOLERANCE * (abs(before) + abs(solved.value))
    if solved.value - before <= slack:
        return
    if similarity.place(tree, solved.indices) <= slack:
        similarity.place(tree, old)
        similarity.changed = [other for other in similarity.changed if other != tree]
