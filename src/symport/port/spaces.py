"""What is kept, trained and written of a port: all weights, or the factors of an adapter.

Either way the network sees θ₂⁰ + length · π(θ₁ᵀ − θ₁⁰), and gradients come back dense.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from symport.params import Params, add
from symport.permute import permute
from symport.spec import Permutation, PermutationSpec


class Space(ABC):
    """The tensors that a result consists of, and how they make the network's weights."""

    @abstractmethod
    def place(self, permutation: Permutation, length: float) -> dict[str, Tensor]:
        """The tensors of the fine-tune under a permutation; length 0 is the untouched new base."""

    @abstractmethod
    def dense(self, held: Params) -> Params:
        """All weights of the network that some tensors stand for."""

    @abstractmethod
    def pull(self, held: Params, gradient: Params) -> Params:
        """The gradient by the tensors, given the one by the network's weights at their place."""


@dataclass(frozen=True, eq=False)
class Whole(Space):
    """All weights of the network, as they are.

    Attributes:
        target_init: The new base.
        displacement: The fine-tune minus its base.
        spec: The symmetry of the network.
    """

    target_init: Params
    displacement: Params
    spec: PermutationSpec

    def place(self, permutation: Permutation, length: float) -> dict[str, Tensor]:
        """The new base plus the permuted displacement, statistics left as they are."""
        moving = {n: d for n, d in self.displacement.items() if n not in self.spec.buffers}
        return add(self.target_init, permute(moving, self.spec, permutation), length)

    def dense(self, held: Params) -> Params:
        """The same."""
        return held

    def pull(self, held: Params, gradient: Params) -> Params:
        """The same."""
        del held
        return gradient
