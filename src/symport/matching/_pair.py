"""What is matched: pairs of tensors by name, and pairs of which only the sum is kept."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from symport.errors import ParamsError
from symport.matching._wreath import Facet
from symport.params import Params, is_finite
from symport.spec import PermutationSpec


@dataclass(frozen=True)
class Pair:
    """Two sets of tensors to be aligned: weights, gradients, or any that the spec covers.

    Attributes:
        target: Is not permuted.
        source: Is permuted; the same names and shapes.
        weight: The factor of its inner product in the objective.

    Example:
        >>> import torch
        >>> Pair({"w": torch.zeros(2)}, {"w": torch.ones(2)}, weight=0.5).weight
        0.5
    """

    target: Params
    source: Params
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class LinearTerm:
    """Pairs whose inner product is linear in each permutation, summed into similarity matrices.

    So are pairs whose tensors each have one moving axis, as activations do. The matrices take the
    place of the pairs and are often much smaller.

    Attributes:
        facets: For each tree and facet the gain of placing source unit `j` at position `i`, shape
            `(n, n)`, float32. Each of several joined processes holds its share.
        constant: The part of the inner products that no permutation changes.

    Example:
        >>> import torch
        >>> term = LinearTerm({"h": {("h",): torch.eye(2)}}, constant=3.0)
        >>> term.times(0.5).constant
        1.5
    """

    facets: Mapping[str, Mapping[Facet, Tensor]]
    constant: float = 0.0

    def times(self, weight: float) -> "LinearTerm":
        """The term with a factor in the objective."""
        facets = {
            tree: {facet: gain * weight for facet, gain in own.items()}
            for tree, own in self.facets.items()
        }
        return LinearTerm(facets, self.constant * weight)


def check_pair(pair: Pair, spec: PermutationSpec) -> None:
    """Check that a pair fits the spec and can be matched.

    Args:
        pair: Tensors of the shapes that the patterns describe; some of the network will do.
        spec: The symmetry of the network.

    Raises:
        ParamsError: The two sides differ in names or shapes, a tensor holds NaN or infinity, or a
            weight with a moving axis is not floating-point.
        SpecError: A tensor has no pattern or does not fit it.

    Example:
        >>> import torch
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> check_pair(Pair({"w": torch.ones(2)}, {"w": torch.tensor([1.0, torch.nan])}), spec)
        Traceback (most recent call last):
        symport.errors.ParamsError: w: the source holds NaN or infinity
    """
    if pair.target.keys() != pair.source.keys():
        odd = sorted(pair.target.keys() ^ pair.source.keys())
        raise ParamsError(f"target and source of a pair differ in {odd[:5]}")
    spec.check(pair.target)
    for name, target in pair.target.items():
        source = pair.source[name]
        if target.shape != source.shape:
            raise ParamsError(
                f"{name}: the target has shape {tuple(target.shape)}, "
                f"the source {tuple(source.shape)}"
            )
        for side, tensor in (("target", target), ("source", source)):
            if spec.moves(name) and not tensor.is_floating_point():
                raise ParamsError(
                    f"{name}: the {side} is of {tensor.dtype} and cannot be matched; convert it to "
                    "a floating-point dtype first"
                )
            if tensor.is_floating_point() and not is_finite(tensor):
                raise ParamsError(f"{name}: the {side} holds NaN or infinity")
