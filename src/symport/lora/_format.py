"""The tensors of a LoRA adapter (Hu et al. 2022), as PEFT names them.

A weight W of the base, as a matrix of outputs × inputs, becomes W + scaling · B A. In addition to
the two factors an adapter may contain a bias and, for DoRA (Liu et al. 2024), the norm of each
output's row; and full tensors that replace those of the base, or that the base lacks, such as a new
head.

PEFT wraps modules, not tensors. If the base ties two names to one tensor, a product or a trained
copy (`modules_to_save`) changes the tensor under one name only, whereas a tensor of the base that
PEFT saved (`save_embedding_layers`) replaces the tied tensor under both names.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from symport.errors import ParamsError
from symport.lora._adapter import Adapter, check_supported
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


@dataclass(frozen=True)
class Target:
    """The low-rank change of one weight of the base: scaling · B A.

    Attributes:
        a: Name of A in the adapter, `(rank, inputs, ...)`.
        b: Name of B in the adapter, `(outputs, rank, ...)`.
        scaling: The factor on the product.
        transposed: Whether the base stores inputs first: embeddings, and the Conv1D of GPT-2.
        bias: Name of the tensor that, times `scaling`, is added to the outputs; or None.
        magnitude: Name of DoRA's norms of the outputs; or None.

    Example:
        >>> Target("lora_A", "lora_B", scaling=2.0, transposed=True).outputs
        1
    """

    a: str
    b: str
    scaling: float
    transposed: bool
    bias: str | None = None
    magnitude: str | None = None

    @property
    def outputs(self) -> int:
        """The axis of the base's weight that runs over outputs."""
        return int(self.transposed)


def value_for_module(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that matches a module's name, in the manner of PEFT.

    Args:
        patterns: Values by regular expression, for instance the `rank_pattern` of a configuration.
        module: Name of a module.
        default: The value if no pattern matches.

    Example:
        >>> value_for_module({"mlp.up": 4}, "layers.0.mlp.up", default=8)
        4
        >>> value_for_module({"mlp.up": 4}, "layers.0.mlp.down", default=8)
        8
    """
    matching = [key for key in patterns if re.fullmatch(rf"(.*\.)?({key})", module)]
    return patterns[matching[0]] if matching else default


def targets(adapter: Adapter, shapes: Shapes | None = None) -> dict[str, Target]:
    """The weights of the base that an adapter changes by a product, by name.

    Args:
        adapter: Never modified.
        shapes: Shapes of the base's tensors, with None for an unknown size. They show which
            weights are stored inputs first; for square weights, and without shapes, the
            configuration decides.

    Raises:
        ParamsError: The adapter is not plain LoRA, lacks a factor, or is for another base.

    Example:
        >>> import torch
        >>> config = {"peft_type": "LORA", "lora_alpha": 8}
        >>> key = "base_model.model.up.lora_{}.weight"
        >>> factors = {key.format("A"): torch.ones(4, 3), key.format("B"): torch.ones(5, 4)}
        >>> found = targets(Adapter(config, factors))
        >>> list(found), found["up.weight"].scaling
        (['up.weight'], 2.0)
    """
    check_supported(adapter)
    found: dict[str, dict[Kind, str]] = {}
    for key in adapter.tensors:
        kind, name = parse_key(key)
        if kind != "value":
            found.setdefault(name, {})[kind] = key
    return {name: _target(adapter, name, keys, shapes or {}) for name, keys in found.items()}


def full_tensors(adapter: Adapter) -> dict[str, str]:
    """The tensors of an adapter that are not factors of a product, such as a new head.

    Returns:
        The name of each in the base, by its name in the adapter.

    Example:
        >>> import torch
        >>> full_tensors(Adapter({}, {"base_model.model.score.weight": torch.ones(2, 3)}))
        {'base_model.model.score.weight': 'score.weight'}
    """
    roles = {key: parse_key(key) for key in adapter.tensors}
    return {key: name for key, (kind, name) in roles.items() if kind == "value"}


def values(adapter: Adapter) -> dict[str, str]:
    """The tensors of the base that an adapter replaces.

    Returns:
        The name of the replacement in the adapter, by name in the base. A tensor that replaces a
        tied tensor is listed under each of its names, unless a module has its own copy.
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
    """The tensors of the base that an adapter changes under one name only, which unties them.

    Example:
        >>> import torch
        >>> key = "base_model.model.lm_head.lora_A.weight"
        >>> tie_breaking_names(Adapter({}, {key: torch.ones(4, 3)}))
        {'lm_head.weight'}
    """
    roles = {key: parse_key(key) for key in adapter.tensors}
    return {
        name
        for key, (kind, name) in roles.items()
        if kind in ("a", "b") or (kind == "value" and _is_own(adapter, key, name))
    }


def _is_own(adapter: Adapter, key: str, name: str) -> bool:
    """Whether a full tensor is a module's own copy, not a new value of the base's."""
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
    """The tensors of an adapter that PEFT ties to others of it.

    Returns:
        For each, the tensor that it is tied to, and whether it is its transpose: the factors of an
        embedding are those of its head, exchanged and transposed.

    Example:
        >>> tied_tensors(Adapter({"ensure_weight_tying": False}, {}))
        {}
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
    """Replace the tensors of an adapter; those that PEFT ties to others are derived from them.

    Args:
        adapter: Never modified.
        tensors: New tensors by the names of the adapter; tied ones may be omitted.

    Example:
        >>> import torch
        >>> adapter = Adapter({}, {"base_model.model.score.weight": torch.zeros(1)})
        >>> with_tensors(adapter, {"base_model.model.score.weight": torch.ones(1)}).tensors
        {'base_model.model.score.weight': tensor([1.])}
    """
    made = {
        key: tensors[lead].T.contiguous() if turned else tensors[lead]
        for key, (lead, turned) in tied_tensors(adapter).items()
    }
    whole = {**tensors, **made}
    return replace(adapter, tensors={key: whole[key] for key in adapter.tensors})


def parse_key(key: str) -> tuple[Kind, str]:
    """Parse a tensor's name in an adapter into its kind and the name of the base's tensor.

    Raises:
        ParamsError: PEFT gives no such name to the tensors of a LoRA adapter.

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
    """Raise ParamsError if the base lacks tensors that an adapter changes.

    Args:
        names: Names of the tensors that the adapter changes.
        known: Tensors of the base, by name.
        where: What the base is called in the message.

    Raises:
        ParamsError: A name is unknown.

    Example:
        >>> check_known(["up.weight"], {"down.weight": 1}, "the base")
        Traceback (most recent call last):
            ...
        symport.errors.ParamsError: the base has no up.weight: an adapter for another base
    """
    if lost := [name for name in names if name not in known]:
        raise ParamsError(f"{where} has no {listed(lost)}: an adapter for another base")
