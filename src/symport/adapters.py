"""Adapters of PEFT (LoRA) carried over to a new base at their own rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from symport.files import PathLike
from symport.params import Params
from symport.spec import Permutation, PermutationSpec


@dataclass(frozen=True, eq=False)
class Adapter:
    """What PEFT keeps in an adapter's folder.

    Attributes:
        config: The content of `adapter_config.json`.
        tensors: The tensors of `adapter_model.safetensors`.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Target:
    """The low-rank change of one tensor of the base: scaling · B A.

    Attributes:
        a: Name of the factor on the side of the inputs, in the adapter.
        b: Name of the factor on the side of the outputs.
        scaling: What the product is multiplied with.
        transposed: Whether the base stores inputs first (the Conv1D of GPT-2).
    """

    a: str
    b: str
    scaling: float
    transposed: bool


def load_adapter(folder: PathLike) -> Adapter:
    """Read an adapter that PEFT saved."""
    raise NotImplementedError


def save_adapter(folder: PathLike, adapter: Adapter) -> None:
    """Write an adapter that PEFT loads."""
    raise NotImplementedError


def targets(adapter: Adapter) -> dict[str, Target]:
    """The tensors of the base that an adapter changes by a low-rank product, by name."""
    raise NotImplementedError


def displacement(adapter: Adapter, base: Params) -> dict[str, Tensor]:
    """What an adapter adds to each tensor of its base, dense."""
    raise NotImplementedError


def transport_adapter(
    adapter: Adapter,
    spec: PermutationSpec,
    permutation: Permutation,
    *,
    length: float = 1.0,
    old_base: Params | None = None,
    new_base: Params | None = None,
) -> Adapter:
    """Carry an adapter over to another base; its rank stays."""
    raise NotImplementedError
