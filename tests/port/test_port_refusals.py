"""What a port refuses, before any result could look finished."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make, pictures, save, texts, tokenizer, transformers, trio

from symport.errors import DataError, FileError, ParamsError, SettingsError
from symport.huggingface import Folders
from symport.huggingface import _folders as folders_of
from symport.port import make_settings, port_fine_tune
from symport.port._with_examples import reading
from symport.port._work_folder import Workplace
from symport.tasks import make_task, read_examples, resolve_task

KIND = "LlamaForCausalLM"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return trio(tmp_path_factory.mktemp("pristine"), KIND)


@pytest.fixture
def files(pristine, tmp_path):
    """A copy that a test may spoil."""
    home = Path(pristine["out"]).parent
    for name in ("old_base", "tuned", "new_base"):
        shutil.copytree(home / name, tmp_path / name)
    return {name: str(tmp_path / name) for name in pristine}


def weights(files, name="new_base") -> Path:
    return Path(files[name]) / "model.safetensors"


def refused(files, error, message, **settings):
    with pytest.raises(error, match=message):
        port_fine_tune(make_settings({**files, "method": "weights", **settings}))
    assert not Path(files["out"]).exists()


def edit(path: Path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_another_architecture(files):
    save(make("GPT2LMHeadModel"), Path(files["new_base"]))
    what = r"not one architecture: model_type is 'llama' in .*old_base, 'gpt2' in"
    refused(files, SettingsError, what)


def test_another_way_to_compute_the_same_shapes(files):
    edit(Path(files["new_base"]) / "config.json", hidden_act="gelu")
    refused(files, SettingsError, "hidden_act is 'silu' in .*old_base, 'gelu' in .*new_base")


def test_another_vocabulary(files):
    save(make(KIND, vocab_size=300), Path(files["new_base"]))
    refused(files, SettingsError, "vocab_size is 260 in .*, 300 in")


def test_a_fine_tune_with_more_tokens_is_refused_with_what_to_do(files):
    save(make(KIND, vocab_size=262), Path(files["tuned"]))
    extended = transformers.AutoTokenizer.from_pretrained(files["tuned"])
    extended.add_tokens(["<extra>", "<more>"])
    extended.save_pretrained(files["tuned"])
    message = "only one has the tokens '<extra>', '<more>'; .*resize_token_embeddings"
    refused(files, SettingsError, message)
    path = Path(files["tuned"]) / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(content))
    refused(files, SettingsError, "2 tokens have other numbers: 'a', 'b'; .*with the same tokens")


def test_a_device_that_is_not_there(files):
    refused(files, SettingsError, "device 'nonsense': there is none here", device="nonsense")


def test_a_loss_that_fails_is_named_with_what_it_was_given(files, tmp_path):
    given = {"examples": texts(tmp_path / "x.jsonl"), "loss": "builtins:len", "method": "fgmt"}
    refused(files, DataError, r"the loss failed on outputs .* and labels \(1, .*len\(\)", **given)


def test_other_shapes_than_the_configuration_says(files):
    other = make(KIND, vocab_size=300).state_dict()
    save_file({k: v.contiguous() for k, v in other.items()}, weights(files), {"format": "pt"})
    refused(files, ParamsError, r"shapes differ in .*embed.*\(260, 32\).*\(300, 32\)")


def test_tokens_that_mean_something_else(files):
    path = Path(files["new_base"]) / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(content))
    refused(files, ParamsError, "differ in 2 tokens: 'a', 'b'")


def test_a_truncated_file(files):
    content = weights(files).read_bytes()
    weights(files).write_bytes(content[: len(content) // 2])
    refused(files, FileError, "model.safetensors: ")


def test_a_missing_shard_and_a_wrong_index(pristine, files):
    folder = Path(files["new_base"])
    weights(files).unlink()
    save(make(KIND), folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    index = folder / "model.safetensors.index.json"
    kept = index.read_text()
    content = json.loads(kept)
    content["weight_map"]["nonsense.weight"] = shards[0].name
    index.write_text(json.dumps(content))
    refused(files, FileError, "nonsense.weight")
    index.write_text(kept)
    shards[0].unlink()
    refused(files, FileError, f"names {shards[0].name}")


def test_pickled_weights(files):
    torch.save(load_file(weights(files)), weights(files).with_name("pytorch_model.bin"))
    weights(files).unlink()
    refused(files, FileError, "pytorch_model.bin")


@pytest.mark.parametrize("name", ["old_base", "tuned", "new_base"])
def test_nan_in_the_weights(files, name):
    state = load_file(weights(files, name))
    state["model.norm.weight"][3] = float("nan")
    save_file(state, weights(files, name), {"format": "pt"})
    refused(files, ParamsError, "model.norm.weight")


def test_quantized_weights(files):
    edit(Path(files["tuned"]) / "config.json", quantization_config={"quant_method": "gptq",
         "bits": 4})  # fmt: skip
    refused(files, SettingsError, "quantized.*dequantize")


def test_an_output_that_exists(files, tmp_path):
    Path(files["out"]).mkdir()
    (Path(files["out"]) / "precious").write_text("")
    with pytest.raises(FileError, match="exists already"):
        port_fine_tune(make_settings(files))
    assert (Path(files["out"]) / "precious").exists()


def test_unfinished_work_with_other_settings(files, tmp_path):
    bad = texts(tmp_path / "bad.jsonl", 2)
    refused(files, DataError, "2 examples, and at least 4", examples=bad)
    work = Path(f"{files['out']}.work")
    assert not work.exists()
    with Workplace(Path(files["out"])) as place:
        place.claim(make_settings({**files, "method": "weights"}).model_dump(mode="json"), {})
        (place.folder / "begun").write_text("")
    message = "unfinished port with other settings .*method was 'weights', not 'identity'"
    refused(files, FileError, message, method="identity")


def test_a_folder_that_is_nowhere(files, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    refused(
        {**files, "tuned": "owner/model"}, FileError, "owner/model: no such folder here.*no net"
    )
    refused({**files, "tuned": "/no/such/folder"}, FileError, "not a model folder, nor a hub id")


def test_a_hub_id_is_downloaded(files, monkeypatch, tmp_path):
    asked = []

    def download(reference, allow_patterns):
        asked.append(reference)
        return files["old_base"]

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert folders_of.find_folder("owner/model") == Path(files["old_base"])
    assert asked == ["owner/model"]


def test_activations_without_inputs(files):
    refused(files, SettingsError, "--unlabelled", method="activations")


def test_a_full_disk_leaves_nothing_that_looks_finished(files, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("symport.port._output.shutil.copyfile", full)
    refused(files, FileError, "No space left")


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        (KIND, "{}", "line 2: has no keys, expected 'text', 'messages'"),
        (KIND, '{"text": ""}', "line 2: 'text' is ''"),
        (KIND, '{"text": "a"}', "line 2: is 1 tokens long"),
        (KIND, "[1]", "line 2: expected an object"),
        (KIND, "{text", "line 2: not JSON"),
        (KIND, '{"messages": [1]}', "line 2: message 1 is 1, expected"),
        ("BertForSequenceClassification", '{"text": "abc"}', "line 2: has no 'label', only text"),
        ("BertForSequenceClassification", '{"text": "abc", "label": "cat"}',
         "line 2: the label 'cat' is none of .*LABEL_0, LABEL_1, LABEL_2"),
    ],
)  # fmt: skip
def test_examples_that_are_not_what_the_task_needs(kind, line, message, tmp_path):
    good = {"text": "abc", "label": 1} if kind.startswith("Bert") else {"text": "abc"}
    (tmp_path / "x.jsonl").write_text(json.dumps(good) + "\n" + line)
    with pytest.raises(DataError, match=message):
        read(kind, tmp_path / "x.jsonl", tmp_path)


def read(kind, reference, folder):
    from tiny import family_of

    save(make(kind), folder / "m")
    tokenizer(folder / "m")
    settings = make_settings(dict.fromkeys(("old_base", "tuned", "new_base", "out"), "x"))
    place = Folders(*[folder / "m"] * 3)
    family = family_of(kind)
    needs = reading(settings, str(reference), place, family)
    return read_examples(resolve_task("auto", family.name), needs)


def test_empty_examples(tmp_path):
    (tmp_path / "x.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="there are no examples"):
        read(KIND, tmp_path / "x.jsonl", tmp_path)
    with pytest.raises(FileError, match="cannot be read"):
        read(KIND, tmp_path / "none.jsonl", tmp_path)


def test_images_that_are_none(tmp_path):
    kind = "ViTForImageClassification"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folders with images"):
        read(kind, tmp_path / "empty", tmp_path)
    with pytest.raises(FileError, match="no such folder"):
        read(kind, tmp_path / "nowhere", tmp_path)
    pictures(tmp_path / "images", 1)
    (tmp_path / "images" / "LABEL_0" / "0.png").write_text("no image")
    with pytest.raises(FileError, match=r"0\.png: cannot be read as an image"):
        read(kind, tmp_path / "images", tmp_path)
    shutil.move(tmp_path / "images" / "LABEL_0", tmp_path / "images" / "cat")
    with pytest.raises(DataError, match="the label 'cat' is none"):
        read(kind, tmp_path / "images", tmp_path)


def test_a_task_that_nothing_tells():
    with pytest.raises(SettingsError, match="T5Model is for none of causal-lm"):
        resolve_task("auto", "T5Model")
    with pytest.raises(SettingsError, match="needs a loss"):
        make_task("arrays", None)
