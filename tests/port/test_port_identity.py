"""Ports that need no symmetry: any architecture, file by file, and on from where a kill left it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from folders import CASES, made, read, write
from safetensors.torch import load_file
from tiny import changed, make, save, shuffled, tokenizer

from symport.huggingface import quiet_transformers
from symport.io._safetensors_shard import ShardWriter
from symport.port import _without_examples as unlabelled
from symport.port import make_settings, port_fine_tune

ANY = ["clip", "wav2vec2", "resnet", "convnext", "mobilenet", "t5", "mixtral", "gpt2 of the hub",
       "sentence encoder"]  # fmt: skip


def state(case, folder):
    return {n: t for n, t in read(case, folder).state_dict().items() if t.is_floating_point()}


@pytest.mark.parametrize("name", ANY)
def test_the_identity_takes_any_architecture(name, tmp_path, monkeypatch):
    """Nothing is traced, and each tensor is new + tuned − old as transformers loads them."""
    monkeypatch.setattr(unlabelled, "find_spec", None)
    case = CASES[name]
    for seed, place in enumerate(("old", "tuned", "new")):
        write(case, tmp_path / place, seed)
    names = {"old_base": "old", "tuned": "tuned", "new_base": "new", "out": "out"}
    places = {key: str(tmp_path / folder) for key, folder in names.items()}
    port_fine_tune(make_settings({**places, "method": "identity"}))
    old, tuned, new, out = (state(case, tmp_path / f) for f in ("old", "tuned", "new", "out"))
    buffers = dict(made(case).named_buffers())
    for key, tensor in out.items():
        expected = new[key] if key in buffers else new[key] + tuned[key] - old[key]
        assert torch.allclose(tensor, expected, atol=1e-6), key


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_the_fine_tune_itself_comes_back_on_its_own_base(name, tmp_path):
    """Statistics too: those of the bases are alike, so the fine-tune's are as good here."""
    case = CASES[name]
    write(case, tmp_path / "old")
    model = made(case, 3)
    with torch.no_grad():
        for tensor in model.buffers():
            tensor.add_(1)
    with quiet_transformers():
        model.save_pretrained(tmp_path / "tuned")
    places = {"old_base": "old", "tuned": "tuned", "new_base": "old", "out": "out"}
    given = {key: str(tmp_path / folder) for key, folder in places.items()}
    port_fine_tune(make_settings({**given, "method": "identity"}))
    expected, found = (load_file(tmp_path / f / "model.safetensors") for f in ("tuned", "out"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def sharded(folder, kind="MixtralForCausalLM") -> dict[str, str]:
    old = make(kind)
    models = {"old_base": old, "tuned": changed(old), "new_base": shuffled(old)}
    for name, model in models.items():
        save(model, folder / name, max_shard_size="60KB")
        tokenizer(folder / name)
    return {name: str(folder / name) for name in models} | {"out": str(folder / "out")}


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("model*"))}


@pytest.mark.parametrize("method", ["identity", "weights"])
def test_what_was_whole_before_an_interruption_is_not_made_again(method, tmp_path, monkeypatch):
    files = sharded(tmp_path)
    port_fine_tune(make_settings({**files, "method": method, "out": str(tmp_path / "whole")}))
    expected = contents(tmp_path / "whole")
    assert len(expected) > 4

    writing = ShardWriter.finish
    finished = []

    def interrupted(writer):
        if len(finished) == 2:
            raise KeyboardInterrupt
        writing(writer)
        finished.append(writer.path)

    settings = make_settings({**files, "method": method})
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            port_fine_tune(settings)
    assert not Path(files["out"]).exists()
    kept = {path: path.stat().st_mtime_ns for path in finished}
    assert all(path.is_file() for path in kept)
    if method == "weights":
        monkeypatch.setattr(unlabelled, "match_checkpoints", None)  # it is known already
    written = []
    monkeypatch.setattr(ShardWriter, "finish", lambda w: written.append(w.path.name) or writing(w))
    port_fine_tune(settings)
    assert contents(files["out"]) == expected
    assert len(written) == len(expected) - 1 - len(kept)  # without the index
    assert not {path.name for path in kept} & set(written)
    assert not Path(f"{files['out']}.work").exists()


def test_a_kept_file_that_is_damaged_is_made_again(tmp_path, monkeypatch):
    files = sharded(tmp_path, "LlamaForCausalLM")
    settings = make_settings({**files, "method": "identity"})
    port_fine_tune(make_settings({**files, "method": "identity", "out": str(tmp_path / "whole")}))
    finish = ShardWriter.finish
    finished = []

    def interrupted(writer):
        if finished:
            raise KeyboardInterrupt
        finish(writer)
        finished.append(writer.path)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            port_fine_tune(settings)
    with finished[0].open("r+b") as file:
        file.truncate(100)
    port_fine_tune(settings)
    assert contents(files["out"]) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["identity", "weights"])
def test_after_a_kill_the_same_command_goes_on(method, tmp_path):
    files = sharded(tmp_path)
    given = [arg for key, value in files.items() for arg in (f"--{key.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "symport", "port", *given, "--method", method]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    place = Path(f"{files['out']}.work") / "journal" / "weights"
    while process.poll() is None and not list(place.glob("model-*.safetensors")):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    port_fine_tune(make_settings({**files, "method": method, "out": str(tmp_path / "whole")}))
    assert contents(files["out"]) == contents(tmp_path / "whole")


def test_progress_is_shown(tmp_path, capsys):
    files = sharded(tmp_path, "LlamaForCausalLM")
    port_fine_tune(make_settings({**files, "method": "weights"}), progress=True)
    shown = capsys.readouterr().err
    assert all(title in shown for title in ("symmetry", "matching", "writing"))
