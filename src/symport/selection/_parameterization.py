"""What is kept, trained and written of a port: all weights, or the factors of an adapter.

Either way the network sees θ₂⁰ + scale · π(θ₁ᵀ − θ₁⁰), and gradients come back dense.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from symport.lora import (
    Adapter,
    displacement,
    targets,
    tied_tensors,
    transport_adapter,
    with_tensors,
)
from symport.methods import place
from symport.outofcore import transport
from symport.params import Params, add, widened
from symport.spec import Permutation, PermutationSpec


class Parameterization(ABC):
    """The tensors that a result consists of, and how they make the network's weights."""

    @abstractmethod
    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The tensors of the fine-tune under a permutation; scale 0 is the untouched new base."""

    @abstractmethod
    def dense(self, tensors: Params) -> Params:
        """All weights of the network that some tensors stand for."""

    @abstractmethod
    def pull_back(self, tensors: Params, gradient: Params) -> Params:
        """The gradient by the tensors, given the one by the network's weights at their place."""


@dataclass(frozen=True, eq=False)
class WholeWeights(Parameterization):
    """All weights of the network, as they are.

    Attributes:
        target_init: The new base.
        displacement: The fine-tune minus its base; it may make each tensor when asked for it.
        spec: The symmetry of the network.
    """

    target_init: Params
    displacement: Params
    spec: PermutationSpec

    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The new base plus the permuted displacement, statistics left as they are."""
        return place(self.target_init, self.displacement, self.spec, permutation, scale)

    def dense(self, tensors: Params) -> Params:
        """The same."""
        return tensors

    def pull_back(self, tensors: Params, gradient: Params) -> Params:
        """The same."""
        del tensors
        return gradient


@dataclass(frozen=True, eq=False)
class MasterWeights(Parameterization):
    """All weights of the network, wider than those that it computes with.

    Training moves the wide ones, of which the network sees rounded copies. So small steps add up,
    and what is written was never rounded.

    Attributes:
        target_init: The new base, in the dtype of the computation.
        old: The old base, in the dtype of what is kept; `wide.wide` reads it from its files.
        tuned: The fine-tune, likewise.
        new: The new base, likewise.
        spec: The symmetry of the network.
    """

    target_init: Params
    old: Params
    tuned: Params
    new: Params
    spec: PermutationSpec

    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """As `transport` has it, to the bit."""
        sides, how = (self.old, self.tuned, self.new), (self.spec, permutation)
        made = transport(*sides, *how, scale=scale, shared_statistics=False)
        return {name: tensor.to(self.target_init[name].device) for name, tensor in made}

    def dense(self, tensors: Params) -> dict[str, Tensor]:
        """Rounded to the dtype of the computation."""
        return {name: tensor.to(self.target_init[name].dtype) for name, tensor in tensors.items()}

    def pull_back(self, tensors: Params, gradient: Params) -> dict[str, Tensor]:
        """In the dtype of what is kept; rounding has the slope of the identity."""
        return {name: slope.to(tensors[name].dtype) for name, slope in gradient.items()}


@dataclass(frozen=True, eq=False)
class AdapterFactors(Parameterization):
    """The tensors of an adapter, at its own rank and in at least float32.

    Attributes:
        target_init: The new base.
        adapter: The fine-tune.
        spec: The symmetry of the network.
        old_base: What the adapter was made for.
        seed: Draws the factors of a fresh adapter.
        new_base: The new base that decides what becomes of whole tensors and norms, where
            `target_init` is narrower than its files; None where it is not.
    """

    target_init: Params
    adapter: Adapter
    spec: PermutationSpec
    old_base: Params
    seed: int = 0
    new_base: Params | None = None

    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The adapter under a permutation; at scale 0 a fresh one, as LoRA starts: B = 0."""
        own = {key: widened(tensor) for key, tensor in self.adapter.tensors.items()}
        carried = transport_adapter(
            replace(self.adapter, tensors=own),
            self.spec,
            permutation,
            scale=scale,
            old_base=self.old_base,
            new_base=self.target_init if self.new_base is None else self.new_base,
        )
        following = tied_tensors(self.adapter)
        tensors = {key: t for key, t in carried.tensors.items() if key not in following}
        if scale == 0:
            generator = Generator().manual_seed(self.seed)
            for target in targets(self.adapter).values():
                if target.a in following:
                    continue
                bound = tensors[target.a].shape[-1] ** -0.5
                draw = torch.rand(tensors[target.a].shape, generator=generator)
                tensors[target.a] = (bound * (2 * draw - 1)).to(tensors[target.a].dtype)
        return tensors

    def dense(self, tensors: Params) -> dict[str, Tensor]:
        """The new base plus scaling · B A and whatever else the adapter changes.

        What the adapter leaves alone are the new base's own tensors.
        """
        change = displacement(with_tensors(self.adapter, tensors), self.target_init)
        moved = add({name: self.target_init[name] for name in change}, change)
        return {**self.target_init, **moved}

    def pull_back(self, tensors: Params, gradient: Params) -> dict[str, Tensor]:
        """By the chain rule: ∂B = s ∂W Aᵀ and ∂A = s Bᵀ ∂W, and so on for whatever it holds."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
        change = displacement(with_tensors(self.adapter, leaves), self.target_init)
        reached = [name for name in change if name in gradient]
        found = torch.autograd.grad(
            [change[name] for name in reached],
            list(leaves.values()),
            [gradient[name].to(change[name].dtype) for name in reached],
            materialize_grads=True,
        )
        return dict(zip(leaves, found, strict=True))
