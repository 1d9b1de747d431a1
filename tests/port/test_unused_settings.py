"""A setting that would change nothing is refused."""

import json
from pathlib import Path

import pytest
import yaml
from tiny import changed, loaded, logits, make, texts, trio

from symport.errors import SettingsError
from symport.port import PortSettings, make_settings, port_fine_tune
from symport.port._refusals import refuse_unused, refuse_unused_by_task, resolve_method
from symport.settings import read_settings, show_settings

KIND = "LlamaForCausalLM"
FILES = {"old_base": "a", "tuned": "b", "new_base": "c", "out": "d"}
OTHER = {
    "steps": 9, "batch_size": 2, "micro_batch": 2, "activation_checkpointing": True,
    "normalize": False, "scales": [3.0], "folds": 3, "held_out": 0.5, "direct_steps": 3,
    "direct_batch_size": 3, "learning_rates": [0.1], "seed": 3, "unlabelled": "x",
    "task": "arrays", "loss": "a:b",
    "labels": ["x"], "max_length": 9, "fix_residual": "yes", "activations": "yes",
    "device": "cuda", "dtype": "float64",
}  # fmt: skip
# What changes something, written by hand from the guide; everything else is to be refused.
WITHOUT = {
    "weights": {"fix_residual"},
    "identity": set(),
    "activations": {
        "unlabelled", "fix_residual", "micro_batch", "task", "max_length", "device", "dtype"
    },
}  # fmt: skip
WITH = {
    "fgmt": OTHER.keys() - {"unlabelled"},
    "weights": OTHER.keys() - {"unlabelled", "batch_size", "normalize", "activations"},
    "activations": OTHER.keys() - {"unlabelled", "batch_size", "normalize", "activations"},
    "identity": OTHER.keys()
    - {"unlabelled", "batch_size", "normalize", "activations", "fix_residual"},
}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("method", WITHOUT)
def test_without_examples_what_changes_nothing_is_refused(method, name):
    inputs = {"unlabelled": "x"} if method == "activations" else {}
    given = make_settings({**FILES, "method": method, **inputs, name: OTHER[name]})
    if name in WITHOUT[method]:
        refuse_unused(given)
        return
    with pytest.raises(SettingsError, match=f"{name} has no effect with"):
        refuse_unused(given)


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("method", WITH)
def test_with_examples_what_changes_nothing_is_refused(method, name):
    given = make_settings({**FILES, "method": method, "examples": "x", name: OTHER[name]})
    if name in WITH[method]:
        refuse_unused(given)
        return
    with pytest.raises(SettingsError, match=f"{name} has no effect"):
        refuse_unused(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 0, "scales": [3.0]}, "scales has no effect with folds=0"),
        ({"folds": 0, "direct_steps": 3}, "direct_steps has no effect with folds=0"),
        (
            {"direct_steps": 0, "learning_rates": [0.1]},
            "learning_rates has no effect without direct",
        ),
        ({"method": "weights", "folds": 0, "steps": 3}, "steps has no effect"),
        (
            {
                "method": "weights",
                "direct_steps": 0,
                "activation_checkpointing": True,
                "batch_size": 3,
            },
            "batch_size, activation_checkpointing have no effect .*leave them out",
        ),
        ({"folds": 0, "direct_steps": 0, "steps": 3}, None),
    ],
)
def test_settings_can_rob_others_of_their_effect(given, message):
    settings = resolve_method(make_settings({**FILES, "examples": "x", **given}))
    if message is None:
        refuse_unused(settings)
        return
    with pytest.raises(SettingsError, match=message):
        refuse_unused(settings)


@pytest.mark.parametrize("method", ["fgmt", "gmt"])
def test_methods_that_need_examples_are_refused_without(method, tmp_path):
    given = {**FILES, "out": str(tmp_path / "out"), "method": method}
    with pytest.raises(SettingsError, match=f"method: {method} matches gradients, which takes"):
        port_fine_tune(make_settings(given))
    with pytest.raises(SettingsError, match="method: activations needs inputs"):
        port_fine_tune(make_settings({**given, "method": "activations"}))
    assert not list(tmp_path.iterdir())


def test_a_task_has_no_use_for_the_settings_of_others():
    refuse_unused_by_task(make_settings({**FILES, "max_length": 9}), "causal-lm")
    refuse_unused_by_task(make_settings({**FILES, "labels": ["x"]}), "image")
    with pytest.raises(SettingsError, match="max_length has no effect for the task 'image'"):
        refuse_unused_by_task(make_settings({**FILES, "max_length": 9}), "image")
    with pytest.raises(SettingsError, match="labels has no effect for the task 'causal-lm'"):
        refuse_unused_by_task(make_settings({**FILES, "labels": ["x"]}), "causal-lm")


def test_a_file_of_all_settings_asks_for_nothing_more(tmp_path):
    (tmp_path / "port.yaml").write_text(show_settings(make_settings(FILES)))
    settings = make_settings({**read_settings(tmp_path / "port.yaml"), "method": "identity"})
    refuse_unused(settings)
    assert settings.model_fields_set == PortSettings.model_fields.keys()


def test_the_default_method_is_named_in_the_result(tmp_path):
    files = trio(tmp_path, KIND)
    found = port_fine_tune(make_settings(files))
    expected = logits(changed(make(KIND)), KIND)
    assert (logits(loaded(KIND, found.folder), KIND) - expected).abs().max() < 1e-5
    written = json.loads((found.folder / "result.json").read_text())
    card = (found.folder / "README.md").read_text()
    assert written["settings"]["method"] == "weights"
    assert yaml.safe_load(card.split("```yaml")[1].split("```")[0])["method"] == "weights"
    said = "No method was given: the default is --method weights"
    assert said in card
    assert any(said in sentence for sentence in written["verdict"])
    given = {**files, "out": str(tmp_path / "two"), "examples": texts(tmp_path / "x.jsonl")}
    texted = port_fine_tune(make_settings({**given, "folds": 0, "steps": 1}))
    assert json.loads((texted.folder / "result.json").read_text())["settings"]["method"] == "fgmt"
    assert not any("No method" in sentence for sentence in texted.verdict)


def test_yes_no_and_the_home_folder_are_read_as_they_are_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "port.yaml"
    path.write_text("old_base: ~/a\ntuned: a~\nnew_base: ~\nout: ~/out\nfix_residual: no\n"
                    "activations: yes\n")  # fmt: skip
    with pytest.raises(SettingsError, match="new_base: input should be a valid string, not None"):
        make_settings(read_settings(path))  # a lone ~ is YAML's null
    settings = make_settings({**read_settings(path), "new_base": "~/b"})
    assert (settings.fix_residual, settings.activations) == ("no", "yes")
    assert (settings.old_base, settings.tuned) == (str(tmp_path / "a"), "a~")
    assert settings.out == Path(tmp_path / "out")
    with pytest.raises(SettingsError, match=r"tuned: .*no such home folder"):
        make_settings({**FILES, "tuned": "~nobody-of-this-name/x"})
    with pytest.raises(SettingsError, match=r"max_length: .*greater than or equal to 2"):
        make_settings({**FILES, "max_length": 1})
