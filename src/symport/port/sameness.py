"""Do models compute the same things, as far as their configurations say?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from symport.errors import SettingsError
from symport.port.tokenizers import about_tokens

# What may differ between bases without changing what the network computes.
HARMLESS = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "tokenizer_class",
    "initializer_range", "gradient_checkpointing", "max_position_embeddings", "pad_token_id",
    "bos_token_id", "eos_token_id", "attention_dropout", "hidden_dropout_prob",
    "classifier_dropout", "attention_probs_dropout_prob", "attn_pdrop", "embd_pdrop",
    "resid_pdrop", "hidden_dropout",
    "_attn_implementation_autoset", "output_router_logits", "router_aux_loss_coef",
}  # fmt: skip


def check_same(configs: Mapping[Path, Any]) -> None:
    """Raise SettingsError unless all configurations agree in whatever changes the computation."""
    (first, config), *others = configs.items()
    ours = _relevant(config)
    for path, other in others:
        theirs = _relevant(other)
        odd = [k for k in sorted(ours.keys() | theirs.keys()) if ours.get(k) != theirs.get(k)]
        if odd:
            key = odd[0]
            more = about_tokens(first, path) if odd == ["vocab_size"] else ""
            raise SettingsError(
                f"not one architecture: {key} is {ours.get(key)!r} in {first}, "
                f"{theirs.get(key)!r} in {path}{more}"
            )


def _relevant(config: Any) -> dict[str, Any]:
    known = cast("dict[str, Any]", json.loads(json.dumps(config.to_dict(), default=str)))
    return {key: value for key, value in known.items() if key not in HARMLESS}
