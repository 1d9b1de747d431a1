"""Objectives for matching, each a list of weighted pairs (target, source).

Weight matching is one pair of parameters, gradient matching one pair of gradients per step.
Concatenate lists to add objectives.
"""

from torch import Tensor

from symport.distributed import full_tensor
from symport.errors import ParamsError
from symport.matching._pair import Pair
from symport.params import Params, inner
from symport.spec import PermutationSpec


def weights(
    target: Params, source: Params, spec: PermutationSpec, *, weight: float = 1.0
) -> list[Pair]:
    """Weight matching (eq. 2 of the paper): one pair of parameters, without buffers.

    Args:
        target: Tensors by name.
        source: Tensors of the same names and shapes.
        spec: Gives the names of the buffers.
        weight: The factor of the pair in the objective.

    Example:
        >>> import torch
        >>> spec = PermutationSpec.parse({"w": "h", "mean": "h"}, sizes={"h": 2}, buffers=["mean"])
        >>> params = {"w": torch.ones(2), "mean": torch.zeros(2)}
        >>> [list(pair.target) for pair in weights(params, params, spec)]
        [['w']]
    """
    return [Pair(_weights_of(target, spec), _weights_of(source, spec), weight)]


def gradients(target: Params, source: Params, *, normalize: bool = False) -> list[Pair]:
    """Gradient matching (eq. 6): one pair of gradients.

    Args:
        target: The gradient at the target's parameters, tensors by name.
        source: The gradient at the source's parameters on the same batch, of the same shapes.
        normalize: Divide by both norms, so that all steps of a trajectory have equal weight. The
            paper does not, so its steep first steps outweigh the later ones.

    Raises:
        ParamsError: A gradient that is to be normalised is zero.

    Example:
        >>> import torch
        >>> gradient = {"w": torch.tensor([3.0, 4.0])}
        >>> gradients(gradient, gradient, normalize=True)[0].weight
        0.04
    """
    if not normalize:
        return [Pair(target, source)]
    size = _norm(target) * _norm(source)
    if size == 0:
        raise ParamsError("a gradient is zero everywhere and cannot be normalised")
    return [Pair(target, source, 1 / size)]


def _norm(grads: Params) -> float:
    """Gathers sharded tensors one at a time."""
    squares = 0.0
    for tensor in grads.values():
        one = {"": full_tensor(tensor)}
        squares += inner(one, one)
    return squares**0.5


def _weights_of(params: Params, spec: PermutationSpec) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in params.items() if name not in spec.buffers}
