"""Heads that only the fine-tune has: carried through the permutation, whatever the bases have."""

import json
from pathlib import Path

import pytest
import torch
from tiny import changed, examples, loaded, logits, make, save, shuffled, transformers, trio

from symport.huggingface import find_family, find_folders
from symport.port import check_port, load_all, make_settings, port_fine_tune

BERT = "BertForSequenceClassification"
ONCE = {"folds": 0, "steps": 1}


def with_classes(folder, count: int) -> dict[str, str]:
    """The fine-tune has as many classes, its bases have three."""
    files = trio(folder, BERT)
    body = {n: t for n, t in changed(make(BERT)).state_dict().items() if n.startswith("bert")}
    tuned = make(BERT, num_labels=count)
    tuned.load_state_dict(body, strict=False)
    save(tuned, Path(files["tuned"]))
    return files


def bare(model, folder) -> None:
    """The body alone, as it is published: no classifier, and names without the body's prefix."""
    body = transformers.BertModel(model.config)
    body.load_state_dict(
        {n.removeprefix("bert."): t for n, t in model.state_dict().items() if n.startswith("bert.")}
    )
    save(body, Path(folder))


def of_the_fine_tune(files):
    """How far the result is from the fine-tune, as the new base is the old one reordered."""
    sides = [logits(loaded(BERT, files[name]), BERT) for name in ("out", "tuned")]
    return (sides[0] - sides[1]).abs().max()


@pytest.mark.parametrize("count", [2, 5])
def test_a_head_with_other_classes_than_the_bases_is_new(count, tmp_path):
    files = with_classes(tmp_path, count)
    assert "in another order" in check_port(make_settings(files)).verdict[0]
    port_fine_tune(make_settings({**files, "method": "weights"}))
    assert of_the_fine_tune(files) < 1e-5


@pytest.mark.slow
def test_so_it_is_with_examples(tmp_path):
    files = with_classes(tmp_path, 2)
    lines = [{"text": f"abc {k}", "label": k % 2} for k in range(8)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    port_fine_tune(make_settings({**files, **ONCE, "examples": str(tmp_path / "x.jsonl")}))
    assert of_the_fine_tune(files) < 1e-5


@pytest.mark.parametrize("name", ["old_base", "new_base"])
@pytest.mark.parametrize("method", ["weights", pytest.param("fgmt", marks=pytest.mark.slow)])
def test_what_only_one_base_has_there_belongs_to_another_task(name, method, tmp_path):
    files = trio(tmp_path, BERT)
    bare({"old_base": make, "new_base": lambda kind: shuffled(make(kind))}[name](BERT), files[name])
    extra = {**ONCE, "examples": examples(BERT, tmp_path)} if method == "fgmt" else {}
    port_fine_tune(make_settings({**files, **extra, "method": method}))
    assert of_the_fine_tune(files) < 1e-5


def test_the_configuration_names_the_dtype_that_was_written(tmp_path):
    """That of the new base, though the configuration is the fine-tune's."""
    files = trio(tmp_path, BERT, new=shuffled(make(BERT)).bfloat16())
    port_fine_tune(make_settings({**files, "method": "identity"}))
    kept = transformers.AutoModelForSequenceClassification.from_pretrained(files["out"])
    assert kept.dtype == torch.bfloat16
    assert json.loads(Path(files["out"], "config.json").read_text())["dtype"] == "bfloat16"


def in_memory(files):
    folders = find_folders(files["old_base"], files["tuned"], files["new_base"])
    return load_all(folders, find_family(folders), make_settings(files))


def test_a_new_head_is_known_from_what_was_loaded(tmp_path):
    """Zeros say nothing: a base may have zero biases, and a fine-tune a head with zeros in it."""
    old = make(BERT)
    torch.nn.init.zeros_(old.classifier.bias)
    torch.nn.init.zeros_(old.bert.encoder.layer[0].output.LayerNorm.bias)
    files = trio(tmp_path, BERT)
    save(old, Path(files["old_base"]))
    assert in_memory(files).new_head == frozenset()

    tuned = changed(make(BERT))
    torch.nn.init.zeros_(tuned.classifier.bias)
    save(tuned, Path(files["tuned"]))
    for name in ("old_base", "new_base"):
        bare(make(BERT), files[name])
    assert in_memory(files).new_head == {"classifier.weight", "classifier.bias"}
