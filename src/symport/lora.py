"""What the tensors of a LoRA adapter (Hu et al. 2022) mean, as PEFT names them.

A weight W of the base, seen as outputs × inputs, becomes W + scaling · B A. Beside the two factors
an adapter may hold a bias and, for DoRA (Liu et al. 2024), the norm of each output's row; and whole
tensors that replace those of the base, or that the base lacks, such as a new head.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

from symport.errors import ParamsError
from symport.params import listed

Shapes: TypeAlias = Mapping[str, Sequence[int | None]]
Kind: TypeAlias = Literal["a", "b", "bias", "magnitude", "value"]

PREFIX = "base_model.model."

_ENDINGS: dict[str, Kind] = {
    ".lora_A.weight": "a",
    ".lora_embedding_A": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_B": "b",
    ".lora_B.bias": "bias",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}
_REFUSED = {
    "target_parameters": "its factors belong to fused expert tensors, whose axes move together",
    "trainable_token_indices": "single rows of the embedding are stored, not a product",
    "layer_replication": "its base has layers that the files do not have",
    "use_bdlora": "its factors are cut into blocks, which a permutation mixes",
    "use_qalora": "its inputs are pooled in groups, which a permutation mixes",
    "arrow_config": "it is a mixture of adapters",
    "kasa_config": "the base itself was changed when it was made",
    "monteclora_config": "it holds more than factors",
}
_ALTERING = ("pissa", "olora", "corda", "loftq", "lora_ga")  # starts that change the base's weights


@dataclass(frozen=True, eq=False)
class Adapter:
    """What PEFT keeps in the folder of an adapter.

    Attributes:
        config: The content of `adapter_config.json`.
        tensors: The tensors of `adapter_model.safetensors`.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Target:
    """The low-rank change of one weight of the base: scaling · B A.

    Attributes:
        a: Name of A in the adapter, `(rank, inputs, ...)`.
        b: Name of B in the adapter, `(outputs, rank, ...)`.
        scaling: What the product is multiplied with.
        transposed: Whether the base stores inputs first: embeddings, and the Conv1D of GPT-2.
        bias: Name of what is added to the outputs (times `scaling`), if there is any.
        magnitude: Name of DoRA's norms of the outputs, if there are any.
    """

    a: str
    b: str
    scaling: float
    transposed: bool
    bias: str | None = None
    magnitude: str | None = None

    @property
    def outputs(self) -> int:
        """Which axis of the base's weight runs over outputs."""
        return int(self.transposed)


def check_supported(adapter: Adapter) -> None:
    """Raise ParamsError, with the reason, if an adapter is not plain LoRA or DoRA."""
    kind = adapter.config.get("peft_type")
    if kind != "LORA":
        raise ParamsError(f"the adapter is of type {kind}; only LORA is a sum of products B A")
    for field, reason in _REFUSED.items():
        if adapter.config.get(field):
            raise ParamsError(f"the adapter uses {field}: {reason}; merge it into its base first")
    start = str(adapter.config.get("init_lora_weights")).lower()
    if start.startswith(_ALTERING):
        raise ParamsError(
            f"the adapter was started by {start}, which changed its base; convert it to plain LoRA "
            "with PEFT's path_initial_model_for_weight_conversion, or merge it into its base first"
        )


def targets(adapter: Adapter, shapes: Shapes | None = None) -> dict[str, Target]:
    """The weights of the base that an adapter changes by a product, by name.

    Args:
        adapter: Never modified.
        shapes: Shapes of the base's tensors, None for an unknown length. They tell which weights
            are stored inputs first; without them the configuration does, as does it for squares.

    Raises:
        ParamsError: The adapter is not plain LoRA, lacks a factor, or is for another base.
    """
    check_supported(adapter)
    found: dict[str, dict[Kind, str]] = {}
    for key in adapter.tensors:
        kind, name = role(key)
        if kind != "value":
            found.setdefault(name, {})[kind] = key
    return {name: _target(adapter, name, keys, shapes or {}) for name, keys in found.items()}


def values(adapter: Adapter) -> dict[str, str]:
    """For each tensor that an adapter holds whole, by its name in the base, the adapter's name."""
    roles = {key: role(key) for key in adapter.tensors}
    return {name: key for key, (kind, name) in roles.items() if kind == "value"}


def role(key: str) -> tuple[Kind, str]:
    """What a tensor of an adapter is, and the tensor of the base it belongs to.

    Raises:
        ParamsError: The name is none that PEFT gives to the tensors of a LoRA adapter.

    Example:
        >>> role("base_model.model.h.0.c_attn.lora_A.weight")
        ('a', 'h.0.c_attn.weight')
        >>> role("base_model.model.score.weight")
        ('value', 'score.weight')
    """
    name = key.removeprefix(PREFIX)
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind, f"{name.removesuffix(ending)}.weight"
    if name == key or re.search(r"lora_|token_adapter|\.vera_|\.oft_", name):
        raise ParamsError(f"{key}: not a tensor of plain LoRA or DoRA as PEFT names them")
    return "value", re.sub(r"\.(base_layer|modules_to_save|original_module)(?=\.)", "", name)


def _target(adapter: Adapter, name: str, keys: Mapping[Kind, str], shapes: Shapes) -> Target:
    if lost := {"a": "A", "b": "B"}.keys() - keys.keys():
        raise ParamsError(f"{name}: the adapter lacks its factor {lost.pop().upper()}")
    a, b = adapter.tensors[keys["a"]], adapter.tensors[keys["b"]]
    if a.shape[0] != b.shape[1]:
        raise ParamsError(
            f"{name}: A {tuple(a.shape)} and B {tuple(b.shape)} have no rank in common (a grouped "
            "convolution?); merge the adapter into its base first"
        )
    stored = bool(adapter.config.get("fan_in_fan_out"))
    transposed = "lora_embedding" in keys["a"] or _is_transposed(name, a, b, shapes, stored)
    scaling = _scaling(adapter.config, name.removesuffix(".weight"), a.shape[0])
    return Target(
        keys["a"], keys["b"], scaling, transposed, keys.get("bias"), keys.get("magnitude")
    )


def _is_transposed(name: str, a: Tensor, b: Tensor, shapes: Shapes, stored: bool) -> bool:
    known = shapes.get(name)
    if known is None:
        return stored
    straight = (b.shape[0], *a.shape[1:])
    options = {False: straight, True: straight[::-1]} if a.ndim == 2 else {False: straight}
    fits = [flag for flag, shape in options.items() if _agree(shape, known)]
    if not fits:
        raise ParamsError(
            f"{name}: the adapter is for a weight of {straight}, outputs first, the base has "
            f"({', '.join(str(n or '?') for n in known)}): an adapter for another base"
        )
    return stored if stored in fits else fits[0]


def _agree(shape: Sequence[int], known: Sequence[int | None]) -> bool:
    return len(shape) == len(known) and all(
        n is None or m == n for m, n in zip(shape, known, strict=True)
    )


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    alphas: Mapping[str, float] = config.get("alpha_pattern") or {}
    matching = [key for key in alphas if re.fullmatch(rf"(.*\.)?({key})", module)]
    alpha = alphas[matching[0]] if matching else config["lora_alpha"]
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def check_known(names: Sequence[str], known: Mapping[str, object], where: str) -> None:
    """Raise ParamsError if an adapter touches tensors that do not exist."""
    if lost := [name for name in names if name not in known]:
        raise ParamsError(f"{where} has no {listed(lost)}: an adapter for another base")
