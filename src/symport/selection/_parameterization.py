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
    """The tensors that a result consists of, and how the network's weights follow from them."""

    @abstractmethod
    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The tensors of the fine-tune under a permutation; those of the new base at scale 0."""

    @abstractmethod
    def dense(self, tensors: Params) -> Params:
        """All weights of the network that follow from some tensors."""

    @abstractmethod
    def pull_back(self, tensors: Params, gradient: Params) -> Params:
        """The gradient with respect to the tensors, given that with respect to the weights."""


@dataclass(frozen=True, eq=False)
class WholeWeights(Parameterization):
    """All weights of the network, as they are.

    Attributes:
        target_init: The new base.
        displacement: The fine-tune minus its base; its tensors may be made on access.
        spec: The symmetry of the network.

    Example:
        >>> start, end = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 2.0])}
        >>> spec = PermutationSpec.parse({"w": "a"}, start)
        >>> swap = Permutation({"a": torch.tensor([1, 0])})
        >>> WholeWeights(start, end, spec).place(swap, 0.5)["w"].tolist()
        [1.0, 0.5]
    """

    target_init: Params
    displacement: Params
    spec: PermutationSpec

    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The new base plus the permuted displacement, statistics left as they are."""
        return place(self.target_init, self.displacement, self.spec, permutation, scale)

    def dense(self, tensors: Params) -> Params:
        """The tensors themselves."""
        return tensors

    def pull_back(self, tensors: Params, gradient: Params) -> Params:
        """The gradient itself."""
        del tensors
        return gradient


@dataclass(frozen=True, eq=False)
class MasterWeights(Parameterization):
    """All weights of the network, in a wider dtype than that of the computation.

    Training updates the wide weights, and the network computes with rounded copies. So small steps
    add up, and what is written was never rounded.

    Attributes:
        target_init: The new base, in the dtype of the computation.
        old: The old base, in the dtype of what is kept.
        tuned: The fine-tune, in that dtype.
        new: The new base, in that dtype.
        spec: The symmetry of the network.

    Example:
        >>> old, tuned, new = ({"w": torch.tensor([x])} for x in (1.0, 1.001, 2.0))
        >>> spec = PermutationSpec.parse({"w": "."}, new)
        >>> kept = MasterWeights({"w": new["w"].bfloat16()}, old, tuned, new, spec)
        >>> tensors = kept.place(Permutation({}), 1.0)
        >>> round(float(tensors["w"]), 4), float(kept.dense(tensors)["w"])
        (2.001, 2.0)
    """

    target_init: Params
    old: Params
    tuned: Params
    new: Params
    spec: PermutationSpec

    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The new base plus the permuted displacement, equal to the bit to `transport`."""
        sides, how = (self.old, self.tuned, self.new), (self.spec, permutation)
        made = transport(*sides, *how, scale=scale, shared_statistics=False)
        return {name: tensor.to(self.target_init[name].device) for name, tensor in made}

    def dense(self, tensors: Params) -> dict[str, Tensor]:
        """Rounded to the dtype of the computation."""
        return {name: tensor.to(self.target_init[name].dtype) for name, tensor in tensors.items()}

    def pull_back(self, tensors: Params, gradient: Params) -> dict[str, Tensor]:
        """The gradient in the dtype of what is kept; rounding counts as the identity."""
        return {name: slope.to(tensors[name].dtype) for name, slope in gradient.items()}


@dataclass(frozen=True, eq=False)
class AdapterFactors(Parameterization):
    """The tensors of an adapter, at its own rank and in at least float32.

    Attributes:
        target_init: The new base.
        adapter: The fine-tune.
        spec: The symmetry of the network.
        old_base: What the adapter was made for.
        seed: Of the random factors of a new adapter.
        new_base: The new base in the dtype of its files, for whole tensors and norms, where
            `target_init` is narrower; None where it is not.

    Example:
        >>> base = {"q.weight": torch.zeros(2, 2)}
        >>> adapter = Adapter(
        ...     {"peft_type": "LORA", "r": 1, "lora_alpha": 2},
        ...     {"q.lora_A.weight": torch.ones(1, 2), "q.lora_B.weight": torch.ones(2, 1)})
        >>> spec = PermutationSpec.parse({"q.weight": ". ."}, base)
        >>> factors = AdapterFactors(base, adapter, spec, base)
        >>> tensors = factors.place(Permutation({}), 1.0)
        >>> factors.dense(tensors)["q.weight"].tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """

    target_init: Params
    adapter: Adapter
    spec: PermutationSpec
    old_base: Params
    seed: int = 0
    new_base: Params | None = None

    def place(self, permutation: Permutation, scale: float) -> dict[str, Tensor]:
        """The adapter under a permutation; at scale 0 a new one as LoRA initializes it: B = 0."""
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

        Tensors that the adapter does not change are those of the new base, not copies.
        """
        change = displacement(with_tensors(self.adapter, tensors), self.target_init)
        moved = add({name: self.target_init[name] for name in change}, change)
        return {**self.target_init, **moved}

    def pull_back(self, tensors: Params, gradient: Params) -> dict[str, Tensor]:
        """The chain rule: ∂B = s ∂W Aᵀ, ∂A = s Bᵀ ∂W, and likewise for its other tensors."""
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
