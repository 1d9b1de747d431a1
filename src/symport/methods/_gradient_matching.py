"""Gradient matching along a trajectory: GMT and FGMT (Algorithms 1 and 2 of the paper)."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from symport.errors import SettingsError
from symport.io import digest
from symport.matching import Gains, MatchResult, Pair, Similarity, gradients, solve, solve_afresh
from symport.methods._base import Method, Problem, State
from symport.model import LossGradient
from symport.spec import Permutation, PermutationSpec

Start: TypeAlias = Literal["previous", "identity"]


class GradientMatching(Method):
    """What GMT and FGMT share.

    Args:
        gradient: The gradients, of source and target on the same batches.
        start: Where each matching starts: the previous permutation (the first: the identity, and
            what no permutation can change, whichever ends better), or the paper's identity.
        normalize: Divide each pair by its norms, so that every step has the same say.
        also: Pairs that every matching counts in, such as one of `activations.activations`, or
            the gains of some (`Similarity.gains`), which take less memory.
        keep: In which dtype the pairs of earlier steps are kept; None as they come. They are what
            takes memory: of tensors along which two or more groups move, both gradients of every
            step. `torch.bfloat16` halves that, and rounds the gradients that are matched.
    """

    def __init__(
        self,
        gradient: LossGradient,
        *,
        start: Start = "previous",
        normalize: bool = False,
        also: Sequence[Pair | Gains] = (),
        keep: torch.dtype | None = None,
    ) -> None:
        if start not in ("previous", "identity"):
            raise SettingsError(f"start must be 'previous' or 'identity', not {start!r}")
        if keep is not None and not keep.is_floating_point:
            raise SettingsError(f"keep must be a floating-point dtype, not {keep}")
        self.gradient = gradient
        self.start = start
        self.normalize = normalize
        self.also = list(also)
        self.keep = keep

    @property
    def evaluations(self) -> int:
        """Gradient evaluations so far, of source and target together."""
        return self.gradient.evaluations

    @property
    def gradient_seconds(self) -> float:
        """Time spent on them."""
        return self.gradient.elapsed_seconds

    def settings(self) -> dict[str, Any]:
        """Start, normalisation and batches."""
        return {
            "start": self.start,
            "normalize": self.normalize,
            "batches": self.gradient.digest(),
            "also": [_fingerprint(pair) for pair in self.also],
            "keep": None if self.keep is None else str(self.keep),
        }

    def _similarity(self, spec: PermutationSpec, start: Permutation | None = None) -> Similarity:
        similarity = Similarity(spec, start, keep=self.keep)
        for pair in self.also:
            if isinstance(pair, Gains):
                similarity.add_gains(pair)
            else:
                similarity.add(pair)
        return similarity

    def _solve(self, similarity: Similarity, step: int, newest: Sequence[Pair]) -> MatchResult:
        if self.start == "identity":
            similarity.move_to(Permutation.identity(similarity.spec))
        elif step == 1:
            return solve_afresh(similarity, [*self.also, *newest])
        return solve(similarity)


def _fingerprint(pair: Pair | Gains) -> list[Any]:
    if isinstance(pair, Pair):
        return [digest(pair.target), digest(pair.source), pair.weight]
    own = {" ".join(f): gain for facets in pair.facets.values() for f, gain in facets.items()}
    return [digest(own), pair.constant]


class FGMT(GradientMatching):
    """Fast gradient matching along the trajectory (Algorithm 2): 2T gradients.

    At step s the pair of gradients at θ₁ˢ⁻¹ and θ₂ˢ⁻¹ joins the earlier ones. Of those, what a
    later permutation can still change stays in memory: tensors along which two or more groups move.

    """

    name = "fgmt"

    def init(self, problem: Problem) -> State:
        """No pairs yet, and the identity."""
        return State(Permutation.identity(problem.spec), None, self._similarity(problem.spec))

    def step(self, problem: Problem, state: State, step: int) -> State:
        """Add the newest pair and match again."""
        similarity: Similarity = state.memory
        target = self.gradient(problem.place(state.permutation, step - 1), step - 1)
        source = self.gradient.along(problem.source)[step - 1]
        newest = gradients(target, source, normalize=self.normalize)
        for pair in newest:
            similarity.add(pair)
        result = self._solve(similarity, step, newest)
        return State(result.permutation, result.objective, similarity)

    def restore(self, problem: Problem, done: Sequence[State]) -> State:
        """Take the steps again: the same gradients and sums, so the same bits.

        Where another machine rounds otherwise, the permutations of the journal are followed.
        """
        state = self.init(problem)
        for step, known in enumerate(done, 1):
            state = self.step(problem, state, step)
            if not state.permutation.equal(known.permutation):
                state.memory.move_to(known.permutation)
                state.memory.changed.clear()
            state = State(known.permutation, known.objective, state.memory)
        return state


class GMT(GradientMatching):
    """Gradient matching along the trajectory (Algorithm 1): at most T(T+1) gradients.

    At step s the gradients of all steps up to s are computed along the path under the previous
    permutation. On fixed batches the source's gradients, and the target's at θ₂⁰, are the same
    every time and computed once, as are the target's while the permutation stays.

    """

    name = "gmt"

    def init(self, problem: Problem) -> State:
        """The identity, and no gradients yet."""
        return State(Permutation.identity(problem.spec), None, {})

    def step(self, problem: Problem, state: State, step: int) -> State:
        """Compute the gradients along the path so far and match them all."""
        known: dict[int, dict[str, Tensor]] = state.memory
        similarity = self._similarity(problem.spec, state.permutation)
        newest: list[Pair] = []
        source = self.gradient.along(problem.source)
        for t in range(step):
            if t not in known:
                known[t] = self.gradient(problem.place(state.permutation, t), t)
            newest = gradients(known[t], source[t], normalize=self.normalize)
            for pair in newest:
                similarity.add(pair)
        result = self._solve(similarity, step, newest)
        if not result.permutation.equal(state.permutation):
            known = {0: known[0]}  # the path has moved, all but its beginning
        return State(result.permutation, result.objective, known)

    def restore(self, problem: Problem, done: Sequence[State]) -> State:
        """Gradients are computed again when needed: they follow from the permutation."""
        del problem
        return State(done[-1].permutation, done[-1].objective, {})
