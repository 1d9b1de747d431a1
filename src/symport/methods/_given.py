"""A permutation found elsewhere, as a method."""

from typing import Any

from symport.io import digest
from symport.methods._base import Problem, SinglePermutation, State
from symport.spec import Permutation


class GivenPermutation(SinglePermutation):
    """One permutation found elsewhere, for every step.

    Args:
        permutation: A permutation of the problem's spec.

    Example:
        >>> import torch
        >>> from symport.spec import PermutationSpec
        >>> from symport.trajectory import Trajectory
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> problem = Problem(source, {"w": torch.zeros(2)}, spec)
        >>> swap = Permutation({"h": torch.tensor([1, 0])})
        >>> GivenPermutation(swap).init(problem).permutation.moved()
        1.0
    """

    name = "given"

    def __init__(self, permutation: Permutation) -> None:
        self.permutation = permutation

    def settings(self) -> dict[str, Any]:
        """A digest of the permutation."""
        return {"permutation": digest(self.permutation.indices)}

    def init(self, problem: Problem) -> State[None]:
        """The given permutation.

        Raises:
            SpecError: It is a permutation of another spec.
        """
        self.permutation.check(problem.spec)
        return State(self.permutation)
