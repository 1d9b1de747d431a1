"""Weight matching: align the two initializations themselves (Git Re-Basin, eq. 2)."""

from symport.matching import match, weights
from symport.methods._base import Problem, SinglePermutation, State


class WeightMatching(SinglePermutation):
    """Align the two initializations themselves, without data.

    Example:
        >>> import torch
        >>> from symport.spec import PermutationSpec
        >>> from symport.trajectory import Trajectory
        >>> start = torch.tensor([1.0, 2.0])
        >>> source = Trajectory.linear({"w": start}, {"w": start + 1}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> problem = Problem(source, {"w": torch.tensor([2.0, 1.0])}, spec)
        >>> WeightMatching().init(problem).permutation.indices
        {'h': tensor([1, 0])}
    """

    name = "weights"

    def init(self, problem: Problem) -> State[None]:
        """Match the source's initialization to the target's."""
        pairs = weights(problem.target_init, problem.source[0], problem.spec)
        result = match(problem.spec, pairs)
        return State(result.permutation, result.objective)
