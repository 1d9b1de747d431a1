import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nets import examples, net, same, spec, trained, weights

from symport.cli import _app as cli
from symport.cli._transfer import transfer_command
from symport.io import load_tensors, locked, save_tensors
from symport.settings import Rules, TransferSettings
from symport.spec import PermutationSpec
from symport.trajectory import Recorder

NETS = """
from torch import nn

def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))

def other():
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3))

def spectral():
    net = mlp()
    nn.utils.parametrizations.spectral_norm(net[0])
    return net

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.c((x := self.a(x)) + self.b(x))

def residual():
    return nn.Sequential(Residual())

def scores(outputs, labels):
    return outputs
"""
QUICK = {"folds": "2", "direct_steps": "3", "steps": "2"}
FLAGS = inspect.signature(transfer_command).parameters


@dataclass
class Answer:
    """What a command printed, and the code it ended with."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """A folder with everything that a transfer needs, and a way to run commands in it."""

    run: Callable[..., Answer]
    options: dict[str, str] = field(
        default_factory=lambda: {
            "model": "mynets:mlp",
            "start": "start.safetensors",
            "end": "end.safetensors",
            "target": "target.safetensors",
            "examples": "few.npz",
            "test": "test.npz",
            "spec": "spec.json",
            "out": "run",
            **QUICK,
        }
    )

    def arguments(self, *more: str, **changes: str | None) -> list[str]:
        chosen = {**self.options, **changes}
        given = {name: value for name, value in chosen.items() if value is not None}
        pairs = [
            (f"--{name}", value) if name in FLAGS else ("--set", f"{name}={value}")
            for name, value in given.items()
        ]
        return ["transfer", *(part for pair in pairs for part in pair), *more]

    def transfer(self, *more: str, **changes: str | None) -> Answer:
        return self.run(*self.arguments(*more, **changes))


def save_examples(path: Path, **changes: np.ndarray) -> None:
    inputs, labels = examples(40)
    arrays: dict[str, Any] = {"inputs": inputs.numpy(), "labels": labels.numpy(), **changes}
    np.savez(path, **arrays)


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys) -> Iterator[Desk]:
    """The commands run inside this process, which has torch loaded already."""
    monkeypatch.chdir(tmp_path)
    Path("mynets.py").write_text(NETS)
    for name, params in (
        ("start", weights(1)),
        ("end", trained(weights(1))),
        ("target", weights(2)),
    ):
        save_tensors(f"{name}.safetensors", params)
    save_examples(Path("few.npz"))
    save_examples(Path("test.npz"), labels=examples(40)[1].flip(0).numpy())
    spec().save("spec.json")

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["symport", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    yield Desk(run)
    sys.modules.pop("mynets", None)


def refused(answer: Answer, message: str) -> None:
    """Exit code 1, one line on standard error that says what is wrong, and nothing left behind."""
    (line,) = answer.err.strip().splitlines()
    assert answer.code == 1
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not Path("run").exists()
    assert not list(Path().rglob("*.tmp"))


def test_discover_prints_patterns_and_saves_them(desk):
    answer = desk.run("discover", "--model", "mynets:mlp", "--inputs", "2,4", "--save", "new.json")
    assert answer.code == 0
    assert answer.err == ""
    rows = [line.split() for line in answer.out.splitlines()]
    first, second = rows[0][1], rows[2][1]
    assert rows == [
        ["0.weight", first, "."],
        ["0.bias", first],
        ["2.weight", second, first],
        ["2.bias", second],
        ["4.weight", ".", second],
        ["4.bias", "."],
        ["groups:", first, "8,", second, "6"],
    ]
    assert PermutationSpec.load("new.json").shape_of(first) == (8,)


def test_discover_takes_examples_and_gives_reasons(desk):
    answer = desk.run("discover", "--model", "mynets:mlp", "--inputs", "few.npz", "--reasons")
    assert "4.bias, axis 0 is fixed: output axis" in answer.out


def test_discover_says_what_ties_a_group(desk):
    answer = desk.run("discover", "--model", "mynets:residual", "--inputs", "2,4", "--reasons")
    assert "0.a moves as one because of add (in 0)" in answer.out


def test_discover_moves_the_buffers_that_are_named(desk):
    arguments = ["discover", "--model", "mynets:spectral", "--inputs", "2,4", "--reasons"]
    answer = desk.run(*arguments)
    assert "groups: h2 6" in answer.out
    assert "indexed by the buffer 0.parametrizations.weight.0._u; name it in" in answer.out
    vectors = [f"0.parametrizations.weight.0.{name}" for name in ("_u", "_v")]
    answer = desk.run(*arguments, "--moving", vectors[0], "--moving", vectors[1])
    assert "groups: h0.bias 8, h2 6" in answer.out
    refused(desk.run(*arguments, "--moving", "gone"), "'gone'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mynets:nope", "--inputs", "2,4"], "no attribute 'nope'"),
        (
            ["--model", "mynets:mlp", "--inputs", "2,x"],
            "'2,x' is neither a shape such as 1,3,32,32",
        ),
        (["--model", "mynets:mlp", "--inputs", "0,4"], "neither a shape"),
        (["--model", "mynets:mlp", "--inputs", ""], "neither a shape"),
        (["--model", "mynets:mlp", "--inputs", "gone.npz"], "gone.npz: cannot be read"),
        (["--model", "mynets:mlp", "--inputs", "2,5"], "cannot be called with these inputs"),
    ],
)
def test_discover_refuses_in_one_line(desk, arguments, message):
    refused(desk.run("discover", *arguments), message)


def test_discover_that_cannot_save_says_so(desk):
    answer = desk.run(
        "discover", "--model", "mynets:mlp", "--inputs", "2,4", "--save", "no/new.json"
    )
    assert answer.code == 1
    assert "create the folder no first" in answer.err
    assert not Path("no").exists()


def test_transfer_writes_weights_that_the_model_can_load(desk):
    answer = desk.transfer()
    assert answer.code == 0
    params = load_tensors("run/params.safetensors")
    net().load_state_dict(params)
    result = json.loads(Path("run/result.json").read_text())
    assert result["picked"] in result["candidates"]
    assert {"loss", "accuracy", "scale", "learning_rate"} <= result["candidates"]["direct"].keys()
    assert len(Path("run/history.jsonl").read_text().splitlines()) <= 2
    assert "Transfer with 40 examples" in Path("run/report.html").read_text()
    for text in ("transfer", "direct", "identity", "untouched", "run/params.safetensors"):
        assert text in answer.out


def test_transfer_finds_the_symmetry_if_it_is_not_given(desk):
    given = desk.transfer()
    found = desk.transfer(spec=None, out="found")
    assert given.code == found.code == 0
    # Groups may go by other names; the permutations are the same.
    indices = [load_tensors(f"{run}/permutation.safetensors") for run in ("run", "found")]
    assert all(torch.equal(*pair) for pair in zip(*(i.values() for i in indices), strict=True))


def test_a_recorded_source_gives_the_same_as_its_ends(desk):
    record = Recorder("source")
    record(weights(1))
    record(trained(weights(1)))
    desk.transfer("--steps", "1", folds="0", out="ends")
    desk.transfer("--steps", "1", folds="0", out="folder", start=None, end=None, source="source")
    runs = [load_tensors(f"{run}/params.safetensors") for run in ("ends", "folder")]
    assert same(*runs)


@pytest.mark.parametrize("method", ["gmt", "weights", "activations", "identity"])
def test_every_method_has_its_name(desk, method):
    assert desk.transfer("--method", method).code == 0
    assert json.loads(Path("run/run.json").read_text())["settings"]["method"] == method


def test_a_method_of_ones_own_is_given_as_module_and_class(desk):
    Path("mynets.py").write_text(
        f"{NETS}\nfrom symport.methods import FGMT\nclass Mine(FGMT):\n    name = 'mine'\n"
    )
    assert desk.transfer("--method", "mynets:Mine", out="own").code == 0
    assert desk.transfer(out="built-in").code == 0
    own, built_in = (load_tensors(f"{out}/params.safetensors") for out in ("own", "built-in"))
    assert same(own, built_in)
    refused(desk.transfer("--method", "naive", out="new"), "the method naive is called identity")
    assert not Path("new").exists()


def test_running_again_changes_nothing(desk):
    first = desk.transfer()
    before = Path("run/params.safetensors").read_bytes()
    again = desk.transfer()
    assert (again.code, again.out) == (first.code, first.out)
    assert Path("run/params.safetensors").read_bytes() == before


def test_another_run_in_the_same_folder_is_refused(desk):
    desk.transfer()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    answer = desk.transfer("--method", "identity")
    assert answer.code == 1
    assert "holds another run: it differs in settings (method)" in answer.err
    assert (
        before.items()
        <= {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}.items()
    )


def test_a_share_is_held_out_without_a_test_set(desk):
    refused(desk.transfer(held_out="1.5", test=None), "held_out: input should be less than 1")
    answer = desk.transfer(held_out="0.25", test=None)
    assert answer.code == 0
    assert "30 examples" in answer.out


@pytest.mark.parametrize("command", [[], ["port"], ["check"], ["transfer"], ["discover"]])
def test_help_answers_without_loading_what_commands_work_with(command):
    asked = [sys.executable, "-X", "importtime", "-m", "symport", *command, "--help"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    loaded = {line.split("|")[-1].strip() for line in answer.stderr.splitlines() if "|" in line}
    assert "Usage: " in answer.stdout
    assert "symport.port._settings" in loaded
    assert not loaded & {"torch", "numpy", "scipy", "safetensors", "transformers", "symport.spec"}


def test_without_the_extra_the_result_is_there_and_the_report_is_not(desk, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    answer = desk.transfer()
    assert answer.code == 0
    assert "no report: reports need jinja2: pip install 'symport[report]'" in answer.err
    assert Path("run/params.safetensors").exists()
    assert not Path("run/report.html").exists()


def bad_weights(name: str) -> dict[str, torch.Tensor]:
    good = weights(2)
    return {
        "missing": {n: t for n, t in good.items() if n != "4.bias"},
        "extra": {**good, "more": torch.zeros(3)},
        "shape": {**good, "4.bias": torch.zeros(4)},
        "nan": {**good, "0.bias": torch.full((8,), torch.nan)},
        "infinite": {**good, "0.bias": torch.full((8,), torch.inf)},
        "integer": {n: (10 * t).int() for n, t in good.items()},
        "half": {n: t.bfloat16() for n, t in good.items()},
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "the parameters lack 4.bias, which the model has"),
        ("extra", "the model has no tensor more"),
        ("shape", "4.bias: its shape is (4,), in the model (3,)"),
        ("nan", "0.bias: 8 of 8 values of the target initialization are NaN or inf"),
        ("infinite", "0.bias: 8 of 8 values of the target initialization are NaN or inf"),
        ("integer", "weights of torch.int32 cannot be transferred; convert them"),
        ("half", "torch.bfloat16 in the target initialization, torch.float32 in the source"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(desk, name, message):
    save_tensors("bad.safetensors", bad_weights(name))
    refused(desk.transfer(target="bad.safetensors"), message)


@pytest.mark.parametrize("name", ["missing", "extra", "shape", "nan", "infinite", "integer"])
def test_a_source_that_does_not_fit_is_refused(desk, name):
    save_tensors("bad.safetensors", bad_weights(name))
    refused(desk.transfer(end="bad.safetensors"), {"missing": "lacks 4.bias", "extra": "more"}.get(
        name, "4.bias" if name == "shape" else "0."))  # fmt: skip


def test_half_precision_is_kept_from_end_to_end(desk):
    for name in ("start", "end", "target"):
        params = load_tensors(f"{name}.safetensors")
        save_tensors(f"{name}.safetensors", {n: t.bfloat16() for n, t in params.items()})
    assert desk.transfer().code == 0
    dtypes = {tensor.dtype for tensor in load_tensors("run/params.safetensors").values()}
    assert dtypes == {torch.bfloat16}


def test_files_that_hold_no_weights_are_refused(desk):
    whole = Path("target.safetensors").read_bytes()
    for content, message in ((whole[:300], "cut short"), (whole[:-1], "cut short"),
                             (b"PK nonsense", "not a safetensors"), (b"", "is empty")):  # fmt: skip
        Path("bad.safetensors").write_bytes(content)
        refused(desk.transfer(target="bad.safetensors"), message)
        refused(desk.transfer(end="bad.safetensors"), message)
    refused(desk.transfer(target="gone.safetensors"), "No such file or directory")
    refused(desk.transfer(target="mynets.py"), "the ending must be one of .safetensors")


def test_a_pickle_is_refused_and_not_run(desk):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, ("trapped",))

    torch.save({"0.weight": Trap()}, "bad.pt")
    refused(desk.transfer(target="bad.pt"), "holds more than tensors")
    torch.save(net(), "bad.pt")
    refused(desk.transfer(target="bad.pt"), "load it where it was made and save its state dict")
    assert not Path("trapped").exists()
    torch.save(weights(2), "good.pt")
    assert desk.transfer(target="good.pt").code == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": examples(40)[1].numpy() + 1},
            "labels run from 1 to 3, but there are 3 classes",
        ),
        ({"labels": examples(40)[1].numpy() - 1}, "labels run from -1 to 1"),
        (
            {"labels": examples(40)[1].numpy() + 0.5},
            "labels are of torch.float64, expected the num",
        ),
        ({"labels": examples(39)[1].numpy()}, "inputs of shape (40, 4) need one label each"),
        ({"inputs": np.zeros((40, 5), np.float32)}, "the model fails on inputs (40, 5)"),
        (
            {"inputs": np.full((40, 4), np.nan, np.float32)},
            "logits are NaN; check parameters and in",
        ),
        (
            {"inputs": np.zeros((40, 4), np.uint8)},
            "inputs (40, 4) torch.uint8 with weights of torch",
        ),
        ({"inputs": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}, "there are no examples"),
    ],
)
@pytest.mark.parametrize("option", ["examples", "test"])
def test_examples_that_do_not_fit_are_refused(desk, option, changes, message):
    save_examples(Path("bad.npz"), **changes)
    answer = desk.transfer(**{option: "bad.npz"})
    refused(answer, message)
    assert "bad.npz: " in answer.err


def test_examples_of_numpy_precision_are_taken(desk):
    inputs, labels = examples(40)
    save_examples(Path("few.npz"), inputs=inputs.double().numpy(), labels=labels.int().numpy())
    assert desk.transfer().code == 0


def test_trajectories_that_are_none_are_refused(desk):
    def with_source(name, *more):
        return desk.transfer(*more, start=None, end=None, source=name)

    Path("empty").mkdir()
    refused(with_source("empty"), "has 0 files step-00000.safetensors")
    Recorder("one")(weights(1))
    refused(with_source("one"), "a trajectory needs at least two")
    record = Recorder("gap")
    for seed in (1, 2, 3):
        record(weights(seed))
    Path("gap/step-00001.safetensors").unlink()
    refused(with_source("gap"), "expected step-00001.safetensors, found step-00002.safetensors")
    refused(with_source("nowhere"), "nowhere: cannot be read")
    record = Recorder("two")
    record(weights(1))
    record(weights(2))
    refused(with_source("two", "--steps", "0"), "give 1 to 1")
    refused(desk.transfer("--steps", "0"), "at least 1 step, not 0")


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "folder"},
        {"start": None},
        {"end": None},
        {"start": None, "end": None},
        {"source": "folder", "end": None},
    ],
)
def test_the_source_is_given_in_one_of_two_ways(desk, changes):
    refused(desk.transfer(**changes), "either as a folder, --source, or by both --start and --end")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "mynets"}, "not of the form module:function"),
        ({"model": "nowhere:mlp"}, "No module named 'nowhere'"),
        ({"model": "mynets:other"}, "does not fit the model"),
        ({"loss": "hinge"}, "no loss 'hinge'"),
        ({"loss": "mynets:scores"}, "it must return one value for each"),
        ({"method": "magic"}, "method 'magic' is none of fgmt"),
        ({"method": "naive"}, "the method naive is called identity now"),
        ({"batch_size": "0"}, "batch_size: input should be greater than or equal to 1, not '0'"),
        ({"seed": "-1"}, "seed: input should be greater than or equal to 0"),
        ({"seed": "99999999999"}, "seed: input should be less than or equal to 4294967295"),
        ({"examples": "few.csv"}, "give a .safetensors or .npz file"),
        ({"examples": "mynets:mlp"}, "must return two arrays, inputs and labels"),
        ({"spec": "gone.json"}, "gone.json: "),
        ({"spec": "mynets.py"}, "is not a permutation spec"),
        ({"spec": "target.safetensors"}, "target.safetensors: "),
    ],
)
def test_options_that_make_no_sense_are_refused(desk, changes, message):
    refused(desk.transfer(**changes), message)


def test_a_folder_that_cannot_be_written_is_refused(desk):
    Path("file").write_text("")
    for folder in ("file", "file/run", *(["/proc/run"] if Path("/proc").is_dir() else [])):
        answer = desk.transfer(out=folder)
        assert answer.code == 1
        assert len(answer.err.strip().splitlines()) == 1
        assert "cannot make this folder" in answer.err
    assert Path("file").read_text() == ""


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the system itself stops the writing in the middle."""
    resource = pytest.importorskip("resource", reason="limits on files are a thing of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_leaves_whole_files_and_a_run_that_can_go_on(desk):
    whole = desk.transfer(out="whole")
    for size in range(0, 1400, 200):
        with room_for(size):
            answer = desk.transfer()
        assert answer.code == 1
        (line,) = (line for line in answer.err.splitlines() if line.startswith("error: "))
        assert "cannot be written" in line
        assert "make room there, or choose another folder" in line
        assert "Traceback" not in answer.err
        for path in Path("run").rglob("*"):
            assert path.suffix != ".tmp"
            if path.suffix == ".safetensors":
                load_tensors(path)
    assert desk.transfer().out.replace("run/", "whole/") == whole.out
    assert same(load_tensors("run/params.safetensors"), load_tensors("whole/params.safetensors"))


def test_missing_settings_are_named(desk):
    answer = desk.run("transfer", "--model", "mynets:mlp")
    refused(answer, "target is missing; examples is missing; out is missing")


def test_help_names_every_flag_and_default(desk):
    shown = " ".join(desk.run("transfer", "--help").out.replace("│", "").split())
    for text in ("fgmt with labelled examples", "[default: auto]", "10 between two ends, or all"):
        assert text in shown
    assert "Example: symport transfer --model nets:mlp" in shown
    assert all(name in desk.run("--help").out for name in ("discover", "transfer"))


def test_a_config_file_gives_what_flags_give(desk):
    Path("transfer.yaml").write_text(yaml.safe_dump({**desk.options, "seed": 3}))
    assert desk.run("transfer", "--config", "transfer.yaml").code == 0
    assert desk.transfer(seed="3", out="typed").code == 0
    assert same(load_tensors("run/params.safetensors"), load_tensors("typed/params.safetensors"))


def test_defaults_differ_from_those_of_a_port_only_where_the_docstring_says():
    ours, theirs = TransferSettings.model_fields, Rules.model_fields
    changed = {name for name in theirs if ours[name].default != theirs[name].default}
    sizes = {"steps", "batch_size", "micro_batch", "direct_steps"}
    assert changed == sizes | {"learning_rates", "normalize"}


def installed(*arguments: str) -> subprocess.Popen[str]:
    """The command as a shell finds it, in a process of its own."""
    command = Path(sys.executable).with_name("symport")
    # A shell starts what runs in the background deaf to Ctrl-C, and its children inherit that.
    return subprocess.Popen(
        [command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_the_installed_command_refuses_in_one_line(desk):
    process = installed(*desk.arguments(target="gone.safetensors"))
    out, err = process.communicate(timeout=60)
    refused(Answer(process.returncode, out, err), "gone.safetensors: cannot be read")


SLOW = """
import time
from pathlib import Path
from torch.nn.functional import cross_entropy
from mynets import mlp

def loss(outputs, labels):
    if not Path("fast").exists():
        time.sleep(0.02)
    return cross_entropy(outputs, labels, reduction="none")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_an_interrupted_command_goes_on_with_the_same_bits(desk, how):
    Path("slow.py").write_text(SLOW)
    options = {"loss": "slow:loss", "steps": "20", "folds": "2", "direct_steps": "0"}
    process = installed(*desk.arguments(**options))
    begun = time.monotonic()
    while not list(Path().glob("run/folds/fold-*/history.jsonl")):
        assert time.monotonic() - begun < 60
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped; the same command continues" in err
        assert "Traceback" not in err
    assert not Path("run/params.safetensors").exists()
    lines = [len(p.read_text().splitlines()) for p in Path().glob("run/folds/*/history.jsonl")]
    assert 0 < sum(lines) < 40
    Path("fast").touch()
    for folder in ("run", "whole"):
        assert desk.run(*desk.arguments(**options, out=folder)).code == 0
    assert same(load_tensors("run/params.safetensors"), load_tensors("whole/params.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": "0.3"}, "held_out has no effect with --test"),
    ],
)
def test_what_would_change_nothing_is_refused(desk, changes, message):
    refused(desk.transfer(**changes), message)


def test_a_proof_that_cannot_be_had_is_refused(desk, tmp_path):
    Path("config.json").write_text('{"model_type": "llama"}')
    answer = desk.run("discover", "--model", "config.json", "--strict")
    refused(answer, "is read without them")


def test_the_files_of_others_stay_and_two_runs_do_not_meet(desk):
    Path("run").mkdir()
    Path("run/params.safetensors").write_text("precious")
    answer = desk.transfer()
    assert (answer.code, "would be replaced" in answer.err) == (1, True)
    assert Path("run/params.safetensors").read_text() == "precious"
    with locked("other"):
        answer = desk.transfer(out="other")
    assert (answer.code, "other: another process is at work there" in answer.err) == (1, True)
