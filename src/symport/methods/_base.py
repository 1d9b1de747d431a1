"""What a method is: it finds the permutation of each step of a trajectory, under one loop.

`init` gives the state before the first step, `step` that after step s: its permutation, its
memory, its cost. `restore` rebuilds the state after an interruption.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from torch import Tensor

from symport.errors import ParamsError
from symport.io import digest
from symport.params import Params, add, listed
from symport.spec import Permutation, PermutationSpec, permute_tensor
from symport.trajectory import Trajectory

Memory = TypeVar("Memory")
_NOTHING: Any = None


@dataclass(frozen=True, eq=False)
class Problem:
    """The source, the target and their symmetry: the input of every method.

    Attributes:
        source: The source's trajectory θ₁⁰ … θ₁ᵀ.
        target_init: The target initialization θ₂⁰.
        spec: The symmetry of the network.

    Example:
        >>> import torch
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 2.0])}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> problem = Problem(source, {"w": torch.tensor([10.0, 20.0])}, spec)
        >>> problem.place(Permutation({"h": torch.tensor([1, 0])}), 1)
        {'w': tensor([12., 21.])}
    """

    source: Trajectory
    target_init: Params
    spec: PermutationSpec

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What distinguishes this problem from others. Reads every tensor once."""
        return {
            "steps": self.source.steps,
            "source": self.source.digest(),
            "target": digest(self.target_init),
            "spec": hashlib.sha256(self.spec.to_json().encode()).hexdigest(),
        }

    def place(self, permutation: Permutation, step: int, scale: float = 1.0) -> dict[str, Tensor]:
        """θ₂⁰ + α π(θ₁ᵗ − θ₁⁰), the target's parameters after `step` steps under π.

        Line 8 of Algorithm 1 adds the increments one by one; their sum is this displacement.
        Statistics and integer tensors stay as in the target initialization.

        Args:
            permutation: π.
            step: t, from 0 to T.
            scale: α, the factor on the displacement.

        Raises:
            ParamsError: The source has a tensor that θ₂⁰ lacks, or of another shape.
            SpecError: A tensor does not fit its pattern, or the permutation is another spec's.
        """
        change = self.source.lazy_displacement(step)
        return place(self.target_init, change, self.spec, permutation, scale)


def place(
    target_init: Params,
    displacement: Params,
    spec: PermutationSpec,
    permutation: Permutation,
    scale: float = 1.0,
) -> dict[str, Tensor]:
    """θ₂⁰ + α π(displacement), tensor by tensor, so that no second network is in memory.

    Args:
        target_init: θ₂⁰.
        displacement: Tensors of the same shapes, each of which may be computed on access.
        spec: The symmetry of the network.
        permutation: π.
        scale: α.

    Returns:
        New tensors. Statistics, and tensors that the displacement lacks, are copies of those in
        θ₂⁰.

    Raises:
        ParamsError: The displacement has a tensor that θ₂⁰ lacks, or of another shape.
        SpecError: A tensor has no pattern or does not fit it, or the permutation is another spec's.

    Example:
        >>> import torch
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> swap = Permutation({"h": torch.tensor([1, 0])})
        >>> place({"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 2.0])}, spec, swap, scale=0.5)
        {'w': tensor([1.0000, 0.5000])}
    """
    if extra := [name for name in displacement if name not in target_init]:
        raise ParamsError(f"cannot add {listed(extra)}: the target has no such tensor")
    spec.check(target_init)
    permutation.check(spec)
    result: dict[str, Tensor] = {}
    for name, tensor in target_init.items():
        if name not in displacement or name in spec.buffers:
            result[name] = tensor.detach().clone()
            continue
        moved = permute_tensor(displacement[name], spec.patterns[name], permutation)
        result[name] = add({name: tensor}, {name: moved}, scale)[name]
    return result


@dataclass(frozen=True)
class Cost:
    """What a step cost.

    Attributes:
        evaluations: Gradients of a whole batch.
        seconds: The time they took.

    Example:
        >>> Cost(1, 0.5) + Cost(1, 0.25)
        Cost(evaluations=2, seconds=0.75)
    """

    evaluations: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.evaluations + other.evaluations, self.seconds + other.seconds)


@dataclass(frozen=True, eq=False)
class State(Generic[Memory]):
    """The state of a method after a step, and what the step cost.

    Attributes:
        permutation: The permutation for that step.
        objective: The objective of the matching, or None if the method does not match.
        memory: Anything else the method needs for the next step; None if it needs nothing.
        cost: The gradients that this step computed.
    """

    permutation: Permutation
    objective: float | None = None
    memory: Memory = _NOTHING  # a method without memory is a Method[None]
    cost: Cost = Cost()


class Method(ABC, Generic[Memory]):
    """How the permutation of each step is found; `Memory` is what it keeps from step to step.

    Attributes:
        name: Its name in records and messages.

    Example:
        >>> class Reversed(Method[None]):
        ...     name = "reversed"
        ...
        ...     def init(self, problem):
        ...         return State(Permutation.identity(problem.spec))
        ...
        ...     def step(self, problem, state, step):
        ...         flipped = {n: i.flip(-1) for n, i in state.permutation.indices.items()}
        ...         return State(Permutation(flipped))
    """

    name: str

    @abstractmethod
    def init(self, problem: Problem) -> State[Memory]:
        """The state before the first step."""

    @abstractmethod
    def step(self, problem: Problem, state: State[Memory], step: int) -> State[Memory]:
        """The permutation for `step`, from 1 to T, given the state after the step before."""

    def settings(self) -> dict[str, Any]:
        """What distinguishes this method from another of its name, for the record of a run."""
        return {}

    def restore(self, problem: Problem, done: Sequence[State[None]]) -> State[Memory]:
        """The state after some steps, given the permutation and the objective of each of them.

        Only permutations and objectives are on disk, so the steps are taken again. Override this
        in a method that needs less.
        """
        state = self.init(problem)
        for step, known in enumerate(done, 1):
            state = self.step(problem, state, step)
            state = replace(state, permutation=known.permutation, objective=known.objective)
        return state


class SinglePermutation(Method[None]):
    """A method with one permutation for every step, which `init` finds.

    Example:
        >>> import torch
        >>> class Reversed(SinglePermutation):
        ...     name = "reversed"
        ...
        ...     def init(self, problem):
        ...         groups = problem.spec.groups.items()
        ...         units = {name: torch.arange(group.size) for name, group in groups}
        ...         return State(Permutation({name: unit.flip(0) for name, unit in units.items()}))
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 2)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> problem = Problem(source, {"w": torch.zeros(2)}, spec)
        >>> method = Reversed()
        >>> method.step(problem, method.init(problem), 1).permutation.indices
        {'h': tensor([1, 0])}
    """

    def step(self, problem: Problem, state: State[None], step: int) -> State[None]:
        """The same permutation again."""
        del problem, step
        return state

    def restore(self, problem: Problem, done: Sequence[State[None]]) -> State[None]:
        """The last state: the method has no memory."""
        del problem
        return done[-1]
