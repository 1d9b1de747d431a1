import math
from pathlib import Path

import pytest
import torch
from cases import present
from nets import same
from tiny import (
    CONFIGS,
    changed,
    examples,
    loaded,
    logits,
    make,
    save,
    shuffled,
    texts,
    tokenizer,
    transformers,
    trio,
)

from symport.port import make_settings, port_fine_tune

ONCE = {"folds": 0, "steps": 2}
LLAMA = "LlamaForCausalLM"
KINDS = [LLAMA, *(pytest.param(k, marks=pytest.mark.slow) for k in CONFIGS if k != LLAMA)]


@pytest.mark.parametrize("kind", KINDS)
def test_fgmt_gives_a_base_in_another_order_the_same_fine_tune(kind, tmp_path):
    files = trio(tmp_path, kind)
    found = port_fine_tune(make_settings({**files, **ONCE, "examples": examples(kind, tmp_path)}))
    assert present(found.outcome).pick == "transfer"
    expected = logits(changed(make(kind)), kind)
    assert (logits(loaded(kind, found.folder), kind) - expected).abs().max() < 1e-5
    assert (logits(shuffled(make(kind)), kind) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_weight_matching_does_so_without_examples(kind, tmp_path):
    files = trio(tmp_path, kind)
    found = port_fine_tune(make_settings({**files, "method": "weights"}))
    assert "exact if the new base is the old one in another order" in " ".join(found.verdict)
    expected = logits(changed(make(kind)), kind)
    assert (logits(loaded(kind, found.folder), kind) - expected).abs().max() < 1e-5


def test_the_old_base_itself_gets_the_fine_tune_by_the_identity(tmp_path):
    """As a base that continues the old one does: its residual stream is held."""
    files = trio(tmp_path, LLAMA, new=make(LLAMA))
    settings = {"steps": 2, "folds": 2, "direct_steps": 0, "scales": [1.5]}
    found = port_fine_tune(
        make_settings({**files, **settings, "examples": texts(tmp_path / "x.jsonl")})
    )
    assert present(found.outcome).pick in ("identity", "untouched")
    assert present(found.outcome).units_moved == 0
    by_weights = port_fine_tune(
        make_settings({**files, "out": str(tmp_path / "w"), "method": "weights"})
    )
    assert same(loaded(LLAMA, by_weights.folder).state_dict(), changed(make(LLAMA)).state_dict())


@pytest.mark.slow
def test_a_new_head_is_carried_through_the_permutation(tmp_path):
    """The bases are language models with another head, and have no classifier."""
    kind = "BertForSequenceClassification"
    files = trio(tmp_path, kind)
    for name, model in {"old_base": make(kind), "new_base": shuffled(make(kind))}.items():
        headless = transformers.BertForMaskedLM(model.config)
        headless.load_state_dict(model.state_dict(), strict=False)
        save(headless, Path(files[name]))
    found = port_fine_tune(make_settings({**files, **ONCE, "examples": examples(kind, tmp_path)}))
    expected = logits(changed(make(kind)), kind)
    assert (logits(loaded(kind, found.folder), kind) - expected).abs().max() < 1e-5
    assert present(found.outcome).evaluated["untouched"].loss == pytest.approx(math.log(3))


def test_shards_dtype_and_tied_weights_are_kept(tmp_path):
    options = {"tie_word_embeddings": True}
    old = make(LLAMA, **options).bfloat16()
    files = {"old_base": old, "tuned": old, "new_base": make(LLAMA, 1, **options).bfloat16()}
    for name, model in files.items():
        save(model, tmp_path / name, max_shard_size="20KB")
        tokenizer(tmp_path / name)
    places = {name: str(tmp_path / name) for name in files} | {"out": str(tmp_path / "out")}
    found = port_fine_tune(
        make_settings({**places, **ONCE, "examples": texts(tmp_path / "x.jsonl")})
    )
    names = {p.name for p in (tmp_path / "tuned").glob("*.safetensors*")}
    assert {p.name for p in found.folder.glob("*.safetensors*")} == names
    assert len(names) > 2
    kept = transformers.LlamaForCausalLM.from_pretrained(found.folder)
    assert kept.dtype == torch.bfloat16
    assert kept.lm_head.weight is kept.model.embed_tokens.weight
    assert same(kept.state_dict(), files["new_base"].state_dict())  # nothing was tuned


@pytest.mark.slow
def test_activations_align_without_labels(tmp_path):
    """All but the residual stream, which no layer's outputs but those of attention and MLP tell."""
    files = trio(tmp_path, "GPT2LMHeadModel")
    inputs = texts(tmp_path / "x.jsonl", 40)
    found = port_fine_tune(make_settings({**files, "method": "activations", "unlabelled": inputs}))
    assert "by their activations" in found.verdict[0]
    expected = logits(changed(make("GPT2LMHeadModel")), "GPT2LMHeadModel")
    ported = logits(loaded("GPT2LMHeadModel", found.folder), "GPT2LMHeadModel")
    assert (ported - expected).abs().max() < 1e-5


def test_a_narrow_computation_does_not_round_what_is_written(tmp_path):
    """The files are float32, and gradients are computed in bfloat16."""
    files = trio(tmp_path, LLAMA)
    given = {**files, **ONCE, "examples": texts(tmp_path / "x.jsonl"), "dtype": "bfloat16"}
    found = port_fine_tune(make_settings(given))
    assert present(found.outcome).pick == "transfer"
    expected = logits(changed(make(LLAMA)), LLAMA)
    assert (logits(loaded(LLAMA, found.folder), LLAMA) - expected).abs().max() < 1e-5
    assert not any("rounded" in sentence for sentence in found.verdict)
    trained = {"folds": 2, "scales": [1.5], "steps": 1, "direct_steps": 1, "learning_rates": [1e-2]}
    given |= trained | {"out": str(tmp_path / "trained"), "method": "identity"}
    found = port_fine_tune(make_settings(given))
    outcome = present(found.outcome)
    assert outcome.plans[outcome.pick].training is not None
    assert not any("rounded" in sentence for sentence in found.verdict)
    written = loaded(LLAMA, found.folder).state_dict()
    assert not [name for name, t in written.items() if torch.equal(t, t.bfloat16().float())]
