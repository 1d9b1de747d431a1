"""What the tensors of a LoRA adapter (Hu et al. 2022) mean, as PEFT names them.

A weight W of the base, seen as outputs × inputs, becomes W + scaling · B A. Beside the two factors
an adapter may hold a bias and, for DoRA (Liu et al. 2024), the norm of each output's row; and whole
tensors that replace those of the base, or that the base lacks, such as a new head.

PEFT wraps modules, not tensors. Where a base ties two names to one tensor, a product or a copy to
train (`modules_to_save`) changes what one name stands for and leaves the other alone, while what
PEFT saved of the base itself (`save_embedding_layers`) is put into the one tensor.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
EMBEDDED = ".lora_embedding_"  # in the names of an embedding's factors
_EXCHANGED = {"a": "b", "b": "a"}
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
_PROMPTS = ("PROMPT", "PREFIX", "P_TUNING", "CPT", "CARTRIDGE")  # inputs, not changes of weights
_ALTERING = ("pissa", "olora", "corda", "loftq", "lora_ga")  # starts that change the base's weights


@dataclass(frozen=True, eq=False)
class Adapter:
    """What PEFT keeps in the folder of an adapter.

    Attributes:
        config: The content of `adapter_config.json`.
        tensors: The tensors of `adapter_model.safetensors`.
        ties: For each name that the base has for a tensor with several, the first of them, in the
            order of the model.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    ties: Mapping[str, str] = field(default_factory=dict[str, str])


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
        remedy = (
            "it steers the base by inputs, not by weights, and cannot be carried over"
            if any(word in str(kind) for word in _PROMPTS)
            else "merge it into its base (merge_and_unload in PEFT), save that, and pass it as the "
            "fine-tune"
        )
        raise ParamsError(
            f"the adapter is of type {kind}; only LORA is a sum of products B A: {remedy}"
        )
    _check_numbers(adapter.config)
    for key, reason in _REFUSED.items():
        if adapter.config.get(key):
            raise ParamsError(f"the adapter uses {key}: {reason}; merge it into its base first")
    start = str(adapter.config.get("init_lora_weights")).lower()
    if start.startswith(_ALTERING):
        raise ParamsError(
            f"the adapter was started by {start}, which changed its base; convert it to plain LoRA "
            "with PEFT's path_initial_model_for_weight_conversion, or merge it into its base first"
        )


def _check_numbers(config: Mapping[str, Any]) -> None:
    """Raise ParamsError if the configuration gives ranks or alphas that are none."""
    for key in ("alpha_pattern", "rank_pattern"):
        found = config.get(key) or {}
        if not isinstance(found, Mapping):
            raise ParamsError(f"adapter_config.json: {key} is {found!r}, not names with numbers")
        for pattern, value in found.items():
            try:
                re.compile(str(pattern))
            except re.error as error:
                raise ParamsError(
                    f"adapter_config.json: {key} has {pattern!r}, no regular expression ({error})"
                ) from error
            if not _is_number(value):
                raise ParamsError(f"adapter_config.json: {key} gives {pattern!r} {value!r}")
    if not _is_number(config.get("lora_alpha")):
        raise ParamsError(
            f"adapter_config.json: lora_alpha is {config.get('lora_alpha')!r}, not a number; "
            "PEFT writes what the adapter was trained with there"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def value_for_module(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that matches a module's name, as PEFT finds it."""
    matching = [key for key in patterns if re.fullmatch(rf"(.*\.)?({key})", module)]
    return patterns[matching[0]] if matching else default


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
        kind, name = parse_key(key)
        if kind != "value":
            found.setdefault(name, {})[kind] = key
    return {name: _target(adapter, name, keys, shapes or {}) for name, keys in found.items()}


def full_tensors(adapter: Adapter) -> dict[str, str]:
    """For each tensor that an adapter holds whole, by its name there, its name in the base."""
    roles = {key: parse_key(key) for key in adapter.tensors}
    return {key: name for key, (kind, name) in roles.items() if kind == "value"}


def values(adapter: Adapter) -> dict[str, str]:
    """What becomes of the base's tensors that an adapter replaces, by their name in the base.

    Returns:
        The adapter's name of the tensor that PEFT ends up with: what was put into a tied tensor
        stands under each of its names, unless a module's own copy stands in for it.
    """
    found: dict[str, str] = {}
    held = full_tensors(adapter)
    order = {name: place for place, name in enumerate(adapter.ties)}
    shared = {name: key for key, name in held.items() if not _is_own(adapter, key, name)}
    for name in sorted(shared, key=lambda name: order.get(name, 0)):  # the last one wins
        for alias in aliases(adapter, name):
            found[alias] = shared[name]
    own = {name: key for key, name in held.items() if _is_own(adapter, key, name)}
    own |= {n: key for key, n in held.items() if n in own and key == f"{PREFIX}{n}"}
    return found | own


def aliases(adapter: Adapter, name: str) -> list[str]:
    """All names of a tensor of the base."""
    first = adapter.ties.get(name)
    return [name] if first is None else [n for n, other in adapter.ties.items() if other == first]


def tie_breaking_names(adapter: Adapter) -> set[str]:
    """The tensors of the base that an adapter changes under one of their names alone."""
    roles = {key: parse_key(key) for key in adapter.tensors}
    return {
        name
        for key, (kind, name) in roles.items()
        if kind in ("a", "b") or (kind == "value" and _is_own(adapter, key, name))
    }


def _is_own(adapter: Adapter, key: str, name: str) -> bool:
    """Whether a whole tensor is a module's own copy, and not put into the tensor of the base."""
    if re.search(r"\.(base_layer|original_module)\.", key):
        return False
    names = aliases(adapter, name) if _keeps_ties(adapter) else [name]
    entries = [str(entry) for entry in adapter.config.get("modules_to_save") or ()]
    return ".modules_to_save." in key or any(
        path.endswith(entry) for own in names for path in _modules(own) for entry in entries
    )


def _modules(name: str) -> list[str]:
    """The modules that a tensor is in, the innermost last."""
    steps = name.split(".")[:-1]
    return [".".join(steps[: k + 1]) for k in range(len(steps))]


def _keeps_ties(adapter: Adapter) -> bool:
    """Whether PEFT ties what it adds to modules that are tied in the base."""
    return bool(adapter.config.get("ensure_weight_tying"))


def tied_tensors(adapter: Adapter) -> dict[str, tuple[str, bool]]:
    """For each tensor that PEFT ties to another of the adapter, that one, and whether transposed.

    The factors of an embedding are those of its head exchanged and transposed.
    """
    if not _keeps_ties(adapter):
        return {}
    keys: dict[tuple[str, str], str] = {parse_key(key): key for key in adapter.tensors}
    keys |= {("value", name): key for name, key in values(adapter).items()}
    found: dict[str, tuple[str, bool]] = {}
    for (kind, name), key in keys.items():
        for leader in reversed(aliases(adapter, name)):  # PEFT reads it last, into one memory
            other = keys.get((_EXCHANGED.get(kind, kind), leader), "")
            turned = kind in _EXCHANGED and (EMBEDDED in other) != (EMBEDDED in key)
            lead = other if other and turned else keys.get((kind, leader))
            if lead is not None:
                if lead != key:
                    found[key] = (lead, turned)
                break
    return found


def with_tensors(adapter: Adapter, tensors: Mapping[str, Tensor]) -> Adapter:
    """The adapter with other tensors; what PEFT ties to them follows, and need not be given."""
    made = {
        key: tensors[lead].T.contiguous() if turned else tensors[lead]
        for key, (lead, turned) in tied_tensors(adapter).items()
    }
    whole = {**tensors, **made}
    return replace(adapter, tensors={key: whole[key] for key in adapter.tensors})


def parse_key(key: str) -> tuple[Kind, str]:
    """What a tensor of an adapter is, and the tensor of the base it belongs to.

    Raises:
        ParamsError: The name is none that PEFT gives to the tensors of a LoRA adapter.

    Example:
        >>> parse_key("base_model.model.h.0.c_attn.lora_A.weight")
        ('a', 'h.0.c_attn.weight')
        >>> parse_key("base_model.model.score.weight")
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
    alpha = value_for_module(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def check_known(names: Sequence[str], known: Mapping[str, object], where: str) -> None:
    """Raise ParamsError if an adapter touches tensors that do not exist."""
    if lost := [name for name in names if name not in known]:
        raise ParamsError(f"{where} has no {listed(lost)}: an adapter for another base")
