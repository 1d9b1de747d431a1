"""An adapter as PEFT saves it, and whether it is of a type that can be carried over."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from symport.errors import ParamsError

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
    """The content of an adapter's folder.

    Attributes:
        config: The content of `adapter_config.json`.
        tensors: The tensors of `adapter_model.safetensors`.
        ties: For each name of a tied tensor of the base, the first of its names in the order of
            the model.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    ties: Mapping[str, str] = field(default_factory=dict[str, str])


def check_supported(adapter: Adapter) -> None:
    """Raise ParamsError if an adapter is not plain LoRA or DoRA.

    Raises:
        ParamsError: It is of another type, or uses an option that cannot be carried over.

    Example:
        >>> check_supported(Adapter({"peft_type": "LORA", "lora_alpha": 8}, {}))
        >>> check_supported(Adapter({"peft_type": "LORA", "lora_alpha": 8, "use_qalora": True}, {}))
        Traceback (most recent call last):
            ...
        symport.errors.ParamsError: the adapter uses use_qalora: its inputs are pooled in ...
    """
    kind = adapter.config.get("peft_type")
    if kind != "LORA":
        advice = (
            "it changes the inputs of the base, not its weights, and cannot be carried over"
            if any(word in str(kind) for word in _PROMPTS)
            else "merge it into its base (merge_and_unload in PEFT), save that, and pass it as the "
            "fine-tune"
        )
        raise ParamsError(
            f"the adapter is of type {kind}; only LORA is a sum of products B A: {advice}"
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
    """Raise ParamsError if ranks or alphas of the configuration are not numbers."""
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
            "set the value that the adapter was trained with"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
