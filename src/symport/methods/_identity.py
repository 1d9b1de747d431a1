"""The identity as a method: the source's displacement is added as it is."""

from symport.methods._base import Problem, SinglePermutation, State
from symport.spec import Permutation


class Identity(SinglePermutation):
    """Unit i of the source becomes unit i of the target: the baseline of a transfer.

    Example:
        >>> import torch
        >>> from symport.spec import PermutationSpec
        >>> from symport.trajectory import Trajectory
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> problem = Problem(source, {"w": torch.zeros(2)}, spec)
        >>> Identity().init(problem).permutation.moved()
        0.0
    """

    name = "identity"

    def init(self, problem: Problem) -> State[None]:
        """The identity."""
        return State(Permutation.identity(problem.spec))
