"""Configurations: what may differ, what is told, and what the result's own says."""

import json
from pathlib import Path

import pytest
import torch
from tiny import loaded, logits, make, trio

from symport.huggingface import load_architecture
from symport.port import port
from symport.port.settings import make_settings


def edit(folder, **keys) -> None:
    """Set keys of config.json; None removes one."""
    path = Path(folder) / "config.json"
    content = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def ported(given, **options):
    return port(make_settings({**given, "method": "identity", **options}))


KERNEL = "kernels-community/flash-attn3"
HEEDED = [
    {"_attn_implementation": KERNEL},
    {"attn_implementation": KERNEL},
    {"attn_implementation": {"": KERNEL}},
    {"_attn_implementation": "flash_attention_2"},
    {"output_attentions": True},
    {"return_dict": False},
    {"output_hidden_states": True},
]


@pytest.mark.parametrize("odd", HEEDED, ids=lambda keys: next(iter(keys)))
def test_no_configuration_asks_for_foreign_kernels_or_other_outputs(tmp_path, odd):
    kind = "LlamaForCausalLM"
    given = trio(tmp_path, kind, new=make(kind, seed=3))
    for name in ("old_base", "tuned", "new_base"):
        edit(given[name], **odd)
    assert load_architecture(given["tuned"]).model.config._attn_implementation == "sdpa"
    folder = ported(given).folder
    for place in (*(given[name] for name in ("old_base", "tuned", "new_base")), folder):
        edit(place, **dict.fromkeys(odd, None))  # transformers itself would heed them
    old, tuned, new = (loaded(kind, given[n]) for n in ("old_base", "tuned", "new_base"))
    sums = {n: new.state_dict()[n] + x - old.state_dict()[n] for n, x in tuned.state_dict().items()}
    new.load_state_dict(sums)
    torch.testing.assert_close(logits(loaded(kind, folder), kind), logits(new, kind))
