"""Ports of folders whose files name or lack what they like, from file to file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import changed, loaded, logits, make, save, transformers, trio

from symport.errors import ParamsError
from symport.port import _without_examples as unlabelled
from symport.port import make_settings, port_fine_tune

LLAMA, GPT2, BERT = "LlamaForCausalLM", "GPT2LMHeadModel", "BertForSequenceClassification"
VIT, MIXTRAL = "ViTForImageClassification", "MixtralForCausalLM"


def edit(folder, change) -> None:
    path = Path(folder) / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def far(files, kind) -> float:
    """How far the result is from the fine-tune, as the new base is the old one reordered."""
    expected = logits(changed(make(kind)), kind)
    return float((logits(loaded(kind, files["out"]), kind) - expected).abs().max())


FOREIGN = {
    LLAMA: lambda state: {**state, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    GPT2: lambda state: {
        "h.0.attn.bias": torch.ones(1, 1, 64, 64),
        **{name.removeprefix("transformer."): tensor for name, tensor in state.items()},
    },
    BERT: lambda state: {
        "cls.predictions.bias": torch.ones(260),
        "bert.embeddings.position_ids": torch.arange(64)[None],
        **state,
    },
    MIXTRAL: dict,
    VIT: lambda state: {"pooler.dense.bias": torch.ones(32), **state},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_names_neither_change_the_result_nor_the_path(kind, tmp_path, monkeypatch):
    files = trio(tmp_path, kind)
    for name in ("old_base", "new_base"):
        edit(files[name], FOREIGN[kind])
    monkeypatch.setattr(unlabelled, "load_all", None)  # nothing goes through memory
    port_fine_tune(make_settings({**files, "method": "weights"}))
    assert far(files, kind) < 1e-5
    written, given = (
        load_file(Path(files[name]) / "model.safetensors") for name in ("out", "tuned")
    )
    assert {k: (t.shape, t.dtype) for k, t in written.items()} == {
        k: (t.shape, t.dtype) for k, t in given.items()
    }


@pytest.mark.parametrize(
    "lost", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"]
)
@pytest.mark.parametrize("where", ["old_base", "tuned", "new_base", "all"])
def test_a_missing_tensor_is_never_made_up(lost, where, tmp_path):
    files = trio(tmp_path, LLAMA)
    places = [where] if where != "all" else ["old_base", "tuned", "new_base"]
    for name in places:
        edit(files[name], lambda state: {n: t for n, t in state.items() if n != lost})
    with pytest.raises(ParamsError, match=rf"{places[0]}.model.safetensors: lacks {lost}"):
        port_fine_tune(make_settings({**files, "method": "weights"}))
    assert not Path(files["out"]).exists()


def test_the_heads_of_other_tasks_are_named(tmp_path):
    """A Llama classifier whose bases are language models."""
    kind = "LlamaForSequenceClassification"
    files = trio(tmp_path, LLAMA)
    tuned = transformers.LlamaForSequenceClassification(make(LLAMA).config)
    tuned.model.load_state_dict(changed(make(LLAMA)).model.state_dict())
    save(tuned, Path(files["tuned"]))
    found = port_fine_tune(make_settings({**files, "method": "weights"}))
    assert "Left out, as LlamaForSequenceClassification has no such parts" in found.verdict[-1]
    assert "lm_head.weight (old_base); lm_head.weight (new_base)" in found.verdict[-1]
    tokens = torch.arange(3, 13)[None]
    with torch.no_grad():
        sides = [loaded(kind, files[name])(tokens).logits for name in ("out", "tuned")]
    assert (sides[0] - sides[1]).abs().max() < 1e-5


def test_experts_keep_the_layout_of_their_files(tmp_path):
    """Shards too: what the model fuses is spread over them as in the fine-tune."""
    files = trio(tmp_path, MIXTRAL, max_shard_size="30KB")
    port_fine_tune(make_settings({**files, "method": "identity"}))
    sides = [Path(files[name]) for name in ("tuned", "out")]
    names = [{p.name: set(load_file(p)) for p in s.glob("model-*.safetensors")} for s in sides]
    assert names[0] == names[1]
    assert len(names[0]) > 2
