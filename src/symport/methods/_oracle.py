"""The oracle: align the whole displacements of source and target, both trained."""

from typing import Any

from symport.io import digest
from symport.matching import match, weights
from symport.methods._base import Problem, SinglePermutation, State
from symport.params import Params
from symport.trajectory import Trajectory


class Oracle(SinglePermutation):
    """The permutation that best aligns the whole displacements of source and target.

    A reference that needs the training which a transfer avoids. It aligns displacements and does
    not maximise a score, so that it is not an upper bound.

    Args:
        target_final: The target initialization after its own training, θ₂ᵀ.

    Example:
        >>> import torch
        >>> from symport.spec import PermutationSpec
        >>> start = {"w": torch.zeros(2)}
        >>> source = Trajectory.linear(start, {"w": torch.tensor([1.0, 2.0])}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> oracle = Oracle({"w": torch.tensor([2.0, 1.0])})
        >>> oracle.init(Problem(source, start, spec)).permutation.indices
        {'h': tensor([1, 0])}
    """

    name = "oracle"

    def __init__(self, target_final: Params) -> None:
        self.target_final = target_final

    def settings(self) -> dict[str, Any]:
        """A digest of the trained target."""
        return {"target_final": digest(self.target_final)}

    def init(self, problem: Problem) -> State[None]:
        """Match the displacements of source and target."""
        ends = Trajectory.linear(problem.target_init, self.target_final, 1)
        source = problem.source.displacement(problem.source.steps)
        result = match(problem.spec, weights(ends.displacement(1), source, problem.spec))
        return State(result.permutation, result.objective)
