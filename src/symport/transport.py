"""Carry a fine-tune over to a new base, tensor by tensor: θ_new + α · π(θ_tuned − θ_old)."""

from collections.abc import Iterator

from torch import Tensor

from symport.params import Params
from symport.spec import Permutation, PermutationSpec


def transport(
    old: Params,
    tuned: Params,
    new: Params,
    spec: PermutationSpec,
    permutation: Permutation,
    *,
    length: float = 1.0,
) -> Iterator[tuple[str, Tensor]]:
    """Compute θ_new + length · π(θ_tuned − θ_old), one tensor at a time.

    Args:
        old: The base that was tuned: a `Checkpoint`, or any dict of tensors.
        tuned: The fine-tune. Its names are those of the result.
        new: The base to carry it to.
        spec: The symmetry of the network; a pattern for each tensor that differs.
        permutation: Which unit goes where.
        length: How far to go; 1 is the whole displacement.

    Returns:
        Names and tensors in the order of `tuned`.
    """
    raise NotImplementedError


def outline_of(old: Params, tuned: Params, new: Params) -> dict[str, Tensor]:
    """Shapes and dtypes of what `transport` yields, for `write_checkpoint`."""
    raise NotImplementedError
