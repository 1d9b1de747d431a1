"""Activation matching: align the two initializations by the activations of their units."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from symport.io import digest
from symport.matching import Pair, match
from symport.methods._base import Problem, SinglePermutation, State
from symport.model import activations, with_activations


class ActivationMatching(SinglePermutation):
    """Align the two initializations by the activations of their units on the same inputs.

    Args:
        model: The network; its own parameters are not used.
        inputs: Batches of inputs, without labels, as the model takes them.

    Example:
        >>> import torch
        >>> from symport.spec import Permutation, PermutationSpec, permute
        >>> from symport.trajectory import Trajectory
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
        >>> patterns = {"0.weight": "h .", "2.weight": ". h", "2.bias": "."}
        >>> start = {
        ...     "0.weight": torch.tensor([[1.0], [-1.0]]),
        ...     "2.weight": torch.tensor([[1.0, 2.0]]),
        ...     "2.bias": torch.zeros(1),
        ... }
        >>> spec = PermutationSpec.parse(patterns, start)
        >>> target = permute(start, spec, Permutation({"h": torch.tensor([1, 0])}))
        >>> end = {name: tensor + 1 for name, tensor in start.items()}
        >>> problem = Problem(Trajectory.linear(start, end, 1), target, spec)
        >>> inputs = [torch.tensor([[1.0], [-2.0]])]
        >>> ActivationMatching(model, inputs).init(problem).permutation.indices
        {'h': tensor([1, 0])}
    """

    name = "activations"

    def __init__(self, model: nn.Module, inputs: Iterable[Any]) -> None:
        self.model = model
        self.inputs = list(inputs)

    def settings(self) -> dict[str, Any]:
        """A digest of the inputs."""
        leaves = {str(k): leaf for k, leaf in enumerate(tree_leaves(self.inputs))}
        return {"inputs": digest({k: t for k, t in leaves.items() if isinstance(t, Tensor)})}

    def init(self, problem: Problem) -> State[None]:
        """Match the activations of the source's initialization to those of the target's."""
        spec = with_activations(problem.spec, self.model)
        target, source = (
            activations(self.model, params, self.inputs, spec)
            for params in (problem.target_init, problem.source[0])
        )
        result = match(spec, [Pair(target, source)])
        return State(result.permutation, result.objective)
