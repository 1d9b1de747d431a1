"""Methods choose a permutation for each step of a trajectory; one loop drives them all.

A method answers two questions: what to remember at the start (`init`), and which permutation to
use for step s (`step`). A third, how to remember again after an interruption (`restore`), arises
only where a permutation alone does not tell.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from symport.errors import ParamsError
from symport.io import digest
from symport.matching import Pair, match, weights
from symport.model import activations, with_activations
from symport.params import Params, add, listed
from symport.spec import Permutation, PermutationSpec, permute_tensor
from symport.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be transferred where.

    Attributes:
        source: The source's trajectory θ₁⁰ … θ₁ᵀ.
        target_init: The target initialization θ₂⁰.
        spec: The symmetry of the network.
    """

    source: Trajectory
    target_init: Params
    spec: PermutationSpec

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this problem from any other; every tensor is read once for it."""
        return {
            "steps": self.source.steps,
            "source": self.source.digest(),
            "target": digest(self.target_init),
            "spec": hashlib.sha256(self.spec.to_json().encode()).hexdigest(),
        }

    def place(self, permutation: Permutation, step: int, length: float = 1.0) -> dict[str, Tensor]:
        """θ₂⁰ + length · π(θ₁ᵗ − θ₁⁰), the target's parameters after `step` steps under π.

        Laying the path again with a new permutation (line 8 of Algorithm 1) telescopes to this.
        Statistics and integer tensors stay as in the target initialization.
        """
        change = self.source.lazy_displacement(step)
        return place(self.target_init, change, self.spec, permutation, length)


def place(
    target_init: Params,
    displacement: Params,
    spec: PermutationSpec,
    permutation: Permutation,
    length: float = 1.0,
) -> dict[str, Tensor]:
    """θ₂⁰ + length · π(displacement), tensor by tensor: nothing as large as a network in between.

    Statistics, and tensors that the displacement lacks, are copies of those in θ₂⁰.

    Raises:
        ParamsError: The displacement has a tensor that θ₂⁰ lacks, or of another shape.
        SpecError: A tensor has no pattern or does not fit it, or the permutation is another spec's.
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
        result[name] = add({name: tensor}, {name: moved}, length)[name]
    return result


@dataclass(frozen=True, eq=False)
class State:
    """What a method knows after a step.

    Attributes:
        permutation: The permutation for that step.
        objective: What the matching reached, or None if the method does not match.
        memory: Anything else the method needs for the next step.
    """

    permutation: Permutation
    objective: float | None = None
    memory: Any = None


class Method(ABC):
    """How the permutation of each step is found."""

    name: str

    @abstractmethod
    def init(self, problem: Problem) -> State:
        """What is known before the first step."""

    @abstractmethod
    def step(self, problem: Problem, state: State, step: int) -> State:
        """The permutation for `step`, from 1 to T, given the state after the step before."""

    @property
    def evaluations(self) -> int:
        """Gradient evaluations so far."""
        return 0

    @property
    def gradient_seconds(self) -> float:
        """Time spent on gradients so far."""
        return 0.0

    def settings(self) -> dict[str, Any]:
        """What distinguishes this method from another of its name, for the record of a run."""
        return {}

    def restore(self, problem: Problem, done: Sequence[State]) -> State:
        """The state after some steps, given the permutation and the objective of each of them.

        A method that remembers more computes it again: only permutations are kept on the disk.
        """
        del problem
        return done[-1]


class Once(Method):
    """One permutation for every step, found before the first."""

    def step(self, problem: Problem, state: State, step: int) -> State:
        """The same permutation again."""
        del problem, step
        return state


class Identity(Once):
    """The identity: unit i of the source teaches unit i of the target (the paper's baseline)."""

    name = "naive"

    def init(self, problem: Problem) -> State:
        """The identity."""
        return State(Permutation.identity(problem.spec))


class Given(Once):
    """One permutation found elsewhere, for every step."""

    name = "given"

    def __init__(self, permutation: Permutation) -> None:
        self.permutation = permutation

    def init(self, problem: Problem) -> State:
        """The given permutation, checked against the spec."""
        self.permutation.check(problem.spec)
        return State(self.permutation)


class Oracle(Once):
    """The permutation that best aligns the whole displacements, the target being really trained.

    A greedy reference that needs the very training a transfer avoids; not an upper bound.

    Args:
        target_final: The target initialization after its own training, θ₂ᵀ.
    """

    name = "oracle"

    def __init__(self, target_final: Params) -> None:
        self.target_final = target_final

    def init(self, problem: Problem) -> State:
        """Match the displacements of source and target."""
        ends = Trajectory.linear(problem.target_init, self.target_final, 1)
        source = problem.source.displacement(problem.source.steps)
        result = match(problem.spec, weights(ends.displacement(1), source, problem.spec))
        return State(result.permutation, result.objective)


class WeightMatching(Once):
    """Align the two initializations themselves, without data (Git Re-Basin, eq. 2)."""

    name = "weights"

    def init(self, problem: Problem) -> State:
        """Match the source's initialization to the target's."""
        pairs = weights(problem.target_init, problem.source[0], problem.spec)
        result = match(problem.spec, pairs)
        return State(result.permutation, result.objective)


class ActivationMatching(Once):
    """Align the two initializations by what their units answer to the same inputs, no labels.

    Args:
        model: Gives the computation.
        inputs: Batches of inputs, as for `activations.activations`.
    """

    name = "activations"

    def __init__(self, model: nn.Module, inputs: Iterable[Any]) -> None:
        self.model = model
        self.inputs = list(inputs)

    def settings(self) -> dict[str, Any]:
        """The inputs."""
        leaves = {str(k): leaf for k, leaf in enumerate(tree_leaves(self.inputs))}
        return {"inputs": digest({k: t for k, t in leaves.items() if isinstance(t, Tensor)})}

    def init(self, problem: Problem) -> State:
        """Match what the units of the source's initialization answer to the target's."""
        spec = with_activations(problem.spec, self.model)
        target, source = (
            activations(self.model, params, self.inputs, spec)
            for params in (problem.target_init, problem.source[0])
        )
        result = match(spec, [Pair(target, source)])
        return State(result.permutation, result.objective)
