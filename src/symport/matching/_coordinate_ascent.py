"""Find the permutation of source tensors that best aligns them with target tensors.

The objective is a sum of inner products over pairs (target, source) of weight w,

    maximise over P   Σₖ wₖ ⟨targetₖ, P(sourceₖ)⟩,

which contains weight matching (one pair: the parameters) and gradient matching along a
trajectory (one pair of gradients per step). It is solved one tree of groups at a time, each being
a linear assignment problem (Ainsworth et al. 2023, eq. 3 of the paper). A work list holds the
trees whose similarity has changed; the others are not solved again.

One solver serves every `Matching`: similarities kept in memory (`Similarity`), or computed from
files whenever a tree is solved (`symport.outofcore`).
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from torch import Generator, Tensor

from symport.errors import SettingsError
from symport.matching._invariants import best_start, invariant_start
from symport.matching._pair import LinearTerm, Pair, check_pair
from symport.matching._similarity import Similarity
from symport.matching._wreath import Similarities, TreeAssignment, assign_tree
from symport.spec import Permutation, PermutationSpec

TOLERANCE = 1e-7  # relative: float32 products carry no more, and a smaller gain may be noise
MAX_SOLVES_PER_TREE = 100  # a safeguard: 5 to 20 are usual


@dataclass(frozen=True)
class MatchResult:
    """A permutation and how it was reached.

    Attributes:
        permutation: Of the units of the source.
        objective: Σ w ⟨target, P(source)⟩, in float64.
        solves: Number of assignment problems solved.
        converged: False if the safeguard on `solves` ended the search.
        objectives: The objective that each search ended at, that from the given start first.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> MatchResult(Permutation.identity(spec), 1.5, 1, True, (1.5,)).objective
        1.5
    """

    permutation: Permutation
    objective: float
    solves: int
    converged: bool
    objectives: tuple[float, ...]


class Matching(Protocol):
    """What `solve` needs of an objective: the gains of one tree of groups at a time.

    The implementation keeps the present permutation and records which trees have changed. The
    solver takes these and decides when each is solved.

    Example:
        >>> matching: Matching = Similarity(PermutationSpec.parse({"w": "h"}, sizes={"h": 2}))
        >>> solve(matching).objective
        0.0
    """

    @property
    def spec(self) -> PermutationSpec:
        """The symmetry of the network."""
        ...

    @property
    def trees(self) -> Mapping[str, tuple[str, ...]]:
        """The groups below each root."""
        ...

    @property
    def permutation(self) -> Permutation:
        """The present permutation."""
        ...

    @property
    def objective(self) -> float:
        """Σ w ⟨target, P(source)⟩ at the present permutation."""
        ...

    @property
    def is_parallel(self) -> bool:
        """Whether trees that are no neighbours may be solved at the same time, in threads."""
        ...

    def gains(self, tree: str) -> Similarities:
        """The similarity of each facet, float64, `(n, n)`, the other trees as they are."""
        ...

    def indices(self, tree: str) -> dict[str, Tensor]:
        """The present indices of the groups of a tree."""
        ...

    def value(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """The summed similarity of a tree under some indices of its groups."""
        ...

    def neighbours(self, tree: str) -> set[str]:
        """The trees whose similarity depends on this one."""
        ...

    def place_if_better(self, tree: str, indices: Mapping[str, Tensor], slack: float) -> None:
        """Give a tree new indices unless the objective gains no more than `slack`."""
        ...

    def take_changed(self) -> list[str]:
        """The trees whose similarity has changed since the last call, in the order of changes."""
        ...

    def mark_changed(self, trees: Iterable[str]) -> None:
        """Have `take_changed` return these trees too."""
        ...


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
        start: Where the search starts. If None, at the identity, or, where the networks turn out to
            be copies of each other in another order, at the permutation found from invariants.
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
            result = restart(similarity, Permutation.random(spec, generator), result)
    return result


def solve(matching: Matching, *, advance: Callable[[str], object] = len) -> MatchResult:
    """Improve one tree of groups after the other until none can gain by itself.

    A warm start: only trees whose similarity has changed since the last search are solved, and
    after them those that their moves change.

    Args:
        matching: Gives the gains, and is moved to the permutation found.
        advance: Called with the root of each tree after it is solved.

    Example:
        >>> import torch
        >>> similarity = Similarity(PermutationSpec.parse({"w": "h"}, sizes={"h": 2}))
        >>> similarity.add(Pair({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, 3.0])}))
        >>> solve(similarity).objective
        11.0
        >>> solve(similarity).solves
        0
    """
    waiting, solves = matching.take_changed(), 0
    limit = MAX_SOLVES_PER_TREE * len(matching.trees)
    while waiting and solves < limit:
        batch = _independent(matching, waiting) if matching.is_parallel else waiting[:1]
        waiting = [tree for tree in waiting if tree not in batch]
        solves += len(batch)
        for tree, solved in zip(batch, _assign(matching, batch), strict=True):
            _accept(matching, tree, solved)
            advance(tree)
            waiting += [other for other in matching.take_changed() if other not in waiting]
    matching.mark_changed(waiting)  # the next search goes on where the safeguard ended this one
    value = matching.objective
    return MatchResult(matching.permutation, value, solves, not waiting, (value,))


def solve_with_restart(similarity: Similarity, pairs: Sequence[Pair | LinearTerm]) -> MatchResult:
    """Solve, restart from `invariant_start`, and keep the better of the two results.

    For the first of several matchings: the later ones start from its result.

    Args:
        similarity: Gives the gains, and is moved to the permutation found.
        pairs: What has been added to it.

    Example:
        >>> import torch
        >>> similarity = Similarity(PermutationSpec.parse({"w": "h"}, sizes={"h": 2}))
        >>> pair = Pair({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, 3.0])})
        >>> similarity.add(pair)
        >>> solve_with_restart(similarity, [pair]).objectives
        (11.0, 11.0)
    """
    return restart(similarity, invariant_start(similarity.spec, pairs), solve(similarity))


def restart(similarity: Similarity, start: Permutation, best: MatchResult) -> MatchResult:
    """Solve again from another start, and keep the better of the two results.

    Args:
        similarity: Gives the gains, and is moved to the better permutation.
        start: A permutation of its spec.
        best: The best result so far.

    Raises:
        SpecError: `start` is not a permutation of the spec.

    Example:
        >>> import torch
        >>> similarity = Similarity(PermutationSpec.parse({"w": "h"}, sizes={"h": 2}))
        >>> similarity.add(Pair({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, 3.0])}))
        >>> found = solve(similarity)
        >>> restart(similarity, Permutation({"h": torch.tensor([0, 1])}), found).solves
        2
    """
    similarity.move_to(start)
    found = solve(similarity)
    chosen = found if found.objective > best.objective else best
    if chosen is best:
        similarity.move_to(best.permutation, solved=True)
    return MatchResult(
        chosen.permutation,
        chosen.objective,
        best.solves + found.solves,
        chosen.converged,
        (*best.objectives, found.objective),
    )


def _independent(matching: Matching, waiting: Sequence[str]) -> list[str]:
    """The first waiting tree, and those after it that are neighbours of none taken."""
    taken: list[str] = []
    barred: set[str] = set()
    for tree in waiting:
        if tree not in barred:
            taken.append(tree)
            barred |= {tree, *matching.neighbours(tree)}
    return taken


def _assign(matching: Matching, trees: Sequence[str]) -> list[TreeAssignment]:
    gains = [matching.gains(tree) for tree in trees]  # not in threads: joined processes meet here

    def one(tree: str, gain: Similarities) -> TreeAssignment:
        return assign_tree(matching.spec, tree, gain, matching.indices(tree))

    if len(trees) == 1:
        return [one(trees[0], gains[0])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # scipy releases the GIL
        return list(pool.map(one, trees, gains))


def _accept(matching: Matching, tree: str, solved: TreeAssignment) -> None:
    """Take a solution that gains more than rounding explains."""
    before = matching.value(tree, matching.indices(tree))
    slack = TOLERANCE * (abs(before) + abs(solved.value))
    if solved.value - before > slack:
        matching.place_if_better(tree, solved.indices, slack)
