"""The two commands, run in this process as `main` runs them."""

import json
import sys

import pytest
import yaml
from tiny import changed, examples, make, save, shuffled, tokenizer, trio

from symport.cli import _app as cli

KIND = "LlamaForCausalLM"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    found = trio(folder, KIND)
    return {**found, "examples": examples(KIND, folder)}


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["symport", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def flags(files, *names):
    return [part for name in names for part in (f"--{name.replace('_', '-')}", str(files[name]))]


def test_a_port_prints_its_verdict_and_writes_the_numbers(run, files, tmp_path):
    bases = flags(files, "old_base", "tuned", "new_base", "examples")
    quick = ["--steps", "2", "--set", "folds=2", "--set", "scales=1.5", "--set", "direct_steps=1"]
    quick += ["--set", "learning_rates=1e-5", "--set", "micro_batch=12"]
    code, out, err = run("port", *bases, *quick, "--out", str(tmp_path / "out"))
    assert code == 0, err
    assert "Picked the transfer" in out
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written["picked"].startswith(("transfer", "then direct"))
    assert written["candidates"]["transfer"]["share_of_lift"] is None or "share of lift" in out
    assert written["settings"]["scales"] == [1.5]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f'base_model: "{files["new_base"]}"' in card
    assert "direct training" in card
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert not (tmp_path / "out.work").exists()


def test_flags_override_the_file_and_all_is_printed(run, files, tmp_path):
    path = tmp_path / "port.yaml"
    keys = ("old_base", "tuned", "new_base", "out")
    path.write_text(yaml.safe_dump({**{k: files[k] for k in keys}, "steps": 5, "seed": 3}))
    code, out, _ = run("port", "--config", str(path), "--steps", "6", "--set", "direct_steps=0",
                       "--set", "scales=1,2", "--print-config")  # fmt: skip
    printed = yaml.safe_load(out)
    assert code == 0
    assert (printed["steps"], printed["seed"], printed["direct_steps"]) == (6, 3, 0)
    assert printed["scales"] == [1.0, 2.0]
    path.write_text("stepz: 3\n")
    code, _, err = run("port", "--config", str(path))
    assert (code, "there is no setting 'stepz'" in err) == (1, True)


def test_check_sees_another_order(run, files):
    bases = flags(files, "old_base", "tuned", "new_base", "examples")
    code, out, err = run("check", *bases)
    assert code == 0, err
    assert "in another order of units" in out
    assert "CKA 1.00" in out
    assert "about" in out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda old: old, "use the fine-tune as it is"),
        (lambda old: changed(old, 7, 0.005), "--method identity"),
        (lambda old: make(KIND, 1), "the identity is no better than chance"),
    ],
)
def test_check_sees_relatives_and_strangers(run, files, tmp_path, change, sentence):
    save(change(make(KIND)), tmp_path / "base")
    tokenizer(tmp_path / "base")
    bases = flags({**files, "new_base": tmp_path / "base"}, "old_base", "tuned", "new_base")
    code, out, err = run("check", *bases)
    assert code == 0, err
    assert sentence in out


def test_shuffling_really_changes_every_tensor_of_the_test():
    old, new = make(KIND).state_dict(), shuffled(make(KIND)).state_dict()
    assert not any((old[name] == new[name]).all() for name in old)
