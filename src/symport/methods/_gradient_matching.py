"""Gradient matching along a trajectory: GMT and FGMT (Algorithms 1 and 2 of the paper)."""

import time
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from symport.errors import SettingsError
from symport.io import digest
from symport.matching import (
    LinearTerm,
    MatchResult,
    Pair,
    Similarity,
    gradients,
    solve,
    solve_with_restart,
)
from symport.methods._base import Cost, Memory, Method, Problem, State
from symport.model import LossGradient
from symport.spec import Permutation, PermutationSpec

Start: TypeAlias = Literal["previous", "identity"]


class GradientMatching(Method[Memory]):
    """What GMT and FGMT have in common: their options, and how each step is matched.

    Args:
        gradient: The gradients of source and target, on the same batches.
        start: Where each matching starts: "previous", the permutation of the step before (the first
            step matches both from the identity and from invariants, and keeps the better result),
            or "identity", as in the paper.
        normalize: Divide each pair by its norms, so that every step has the same weight.
        also: Pairs to add to every matching, such as one of `symport.model.activations`, or their
            sum (`Similarity.linear_term`), which takes less memory.
        keep: The dtype in which the pairs of earlier steps are kept; None for their own. They take
            most of the memory: both gradients of every step, for tensors along which two or more
            groups move. `torch.bfloat16` halves that, and rounds the gradients that are matched.

    Raises:
        SettingsError: `start` is neither of the two, or `keep` is not a floating-point dtype.

    Example:
        >>> from torch import nn
        >>> ones = torch.ones(4, 1)
        >>> gradient = LossGradient(nn.Linear(1, 1), nn.functional.mse_loss, [(ones, ones)])
        >>> method = GMT(gradient, start="identity", keep=torch.bfloat16)
        >>> method.settings()["start"], method.settings()["keep"]
        ('identity', 'torch.bfloat16')
    """

    def __init__(
        self,
        gradient: LossGradient,
        *,
        start: Start = "previous",
        normalize: bool = False,
        also: Sequence[Pair | LinearTerm] = (),
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

    def settings(self) -> dict[str, Any]:
        """All options, and digests of the batches and of the pairs that are added."""
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
            if isinstance(pair, LinearTerm):
                similarity.add_linear_term(pair)
            else:
                similarity.add(pair)
        return similarity

    def _solve(self, similarity: Similarity, step: int, newest: Sequence[Pair]) -> MatchResult:
        if self.start == "identity":
            similarity.move_to(Permutation.identity(similarity.spec))
        elif step == 1:
            return solve_with_restart(similarity, [*self.also, *newest])
        return solve(similarity)


class _Meter:
    """Computes the gradients of one step, and sums what they cost."""

    def __init__(self, gradient: LossGradient, problem: Problem) -> None:
        self.cost = Cost()
        self._gradient = gradient
        self._problem = problem
        self._along = gradient.along(problem.source)

    def of_target(self, permutation: Permutation, step: int) -> dict[str, Tensor]:
        """The gradient at a step of the target's path under a permutation."""
        params = self._problem.place(permutation, step)
        begun = time.perf_counter()
        result = self._gradient(params, step)
        self.cost += Cost(1, time.perf_counter() - begun)
        return result

    def of_source(self, step: int) -> dict[str, Tensor]:
        """The gradient at a step of the source; free if it has been computed before."""
        if step in self._along:
            return self._along[step]
        begun = time.perf_counter()
        result = self._along[step]
        self.cost += Cost(1, time.perf_counter() - begun)
        return result


def _fingerprint(pair: Pair | LinearTerm) -> list[Any]:
    if isinstance(pair, Pair):
        return [digest(pair.target), digest(pair.source), pair.weight]
    own = {" ".join(f): gain for facets in pair.facets.values() for f, gain in facets.items()}
    return [digest(own), pair.constant]


class FGMT(GradientMatching[Similarity]):
    """Fast gradient matching along the trajectory (Algorithm 2): 2T gradients.

    Step s adds the pair of gradients at θ₁ˢ⁻¹ and θ₂ˢ⁻¹ to those of the steps before. Of these,
    only tensors along which two or more groups move are kept in memory: all else is summed.

    Example:
        >>> from torch import nn
        >>> from symport.methods import transfer
        >>> from symport.trajectory import Trajectory
        >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> source_init = {
        ...     "0.weight": torch.tensor([[1.0], [2.0]]),
        ...     "0.bias": torch.zeros(2),
        ...     "2.weight": torch.tensor([[1.0, -1.0]]),
        ...     "2.bias": torch.zeros(1),
        ... }
        >>> source_final = {name: tensor + 0.1 for name, tensor in source_init.items()}
        >>> target_init = {name: tensor.flip(-1) for name, tensor in source_init.items()}
        >>> target_init["0.weight"] = source_init["0.weight"].flip(0)
        >>> source = Trajectory.linear(source_init, source_final, 2)
        >>> spec = PermutationSpec.parse(patterns, source_init)
        >>> batch = (torch.ones(4, 1), torch.ones(4, 1))
        >>> method = FGMT(LossGradient(model, nn.functional.mse_loss, [batch]))
        >>> result = transfer(source, target_init, spec, method)
        >>> result.permutation.indices
        {'h': tensor([1, 0])}
        >>> result.evaluations
        4
    """

    name = "fgmt"

    def init(self, problem: Problem) -> State[Similarity]:
        """The identity, and no pairs yet."""
        return State(Permutation.identity(problem.spec), None, self._similarity(problem.spec))

    def step(self, problem: Problem, state: State[Similarity], step: int) -> State[Similarity]:
        """Add the newest pair and match all pairs."""
        similarity, meter = state.memory, _Meter(self.gradient, problem)
        target = meter.of_target(state.permutation, step - 1)
        source = meter.of_source(step - 1)
        newest = gradients(target, source, normalize=self.normalize)
        for pair in newest:
            similarity.add(pair)
        result = self._solve(similarity, step, newest)
        return State(result.permutation, result.objective, similarity, meter.cost)

    def restore(self, problem: Problem, done: Sequence[State[None]]) -> State[Similarity]:
        """Take the steps again: the same gradients and sums, so the same bits.

        If another machine rounds differently, the permutations on disk are used.
        """
        state = self.init(problem)
        for step, known in enumerate(done, 1):
            state = self.step(problem, state, step)
            if not state.permutation.equal(known.permutation):
                state.memory.move_to(known.permutation, solved=True)
            state = State(known.permutation, known.objective, state.memory)
        return state


Known: TypeAlias = dict[int, dict[str, Tensor]]  # gradients of the target, by step


class GMT(GradientMatching[Known]):
    """Gradient matching along the trajectory (Algorithm 1): at most T(T+1) gradients.

    Step s computes the gradients of all steps before s along the path under the permutation of step
    s − 1. On fixed batches the source's gradients and the target's at θ₂⁰ do not change and are
    computed once; the target's other gradients are computed again when the permutation changes.

    Example:
        >>> from torch import nn
        >>> from symport.methods import transfer
        >>> from symport.trajectory import Trajectory
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
        >>> patterns = {"0.weight": "h .", "2.weight": ". h", "2.bias": "."}
        >>> init = {
        ...     "0.weight": torch.tensor([[1.0], [2.0]]),
        ...     "2.weight": torch.tensor([[1.0, -1.0]]),
        ...     "2.bias": torch.zeros(1),
        ... }
        >>> final = {name: tensor + 0.1 for name, tensor in init.items()}
        >>> spec = PermutationSpec.parse(patterns, init)
        >>> batch = (torch.ones(4, 1), torch.ones(4, 1))
        >>> method = GMT(LossGradient(model, nn.functional.mse_loss, [batch]))
        >>> transfer(Trajectory.linear(init, final, 2), init, spec, method).permutation.moved()
        0.0
    """

    name = "gmt"

    def init(self, problem: Problem) -> State[Known]:
        """The identity, and no gradients yet."""
        return State(Permutation.identity(problem.spec), None, {})

    def step(self, problem: Problem, state: State[Known], step: int) -> State[Known]:
        """Compute the gradients along the path so far, and match them all."""
        known, meter = state.memory, _Meter(self.gradient, problem)
        similarity = self._similarity(problem.spec, state.permutation)
        newest: list[Pair] = []
        for t in range(step):
            if t not in known:
                known[t] = meter.of_target(state.permutation, t)
            newest = gradients(known[t], meter.of_source(t), normalize=self.normalize)
            for pair in newest:
                similarity.add(pair)
        result = self._solve(similarity, step, newest)
        if not result.permutation.equal(state.permutation):
            known = {0: known[0]}  # all of the path has changed but its beginning
        return State(result.permutation, result.objective, known, meter.cost)

    def restore(self, problem: Problem, done: Sequence[State[None]]) -> State[Known]:
        """The last state, without gradients: `step` computes them again from the permutation."""
        del problem
        return State(done[-1].permutation, done[-1].objective, {})
