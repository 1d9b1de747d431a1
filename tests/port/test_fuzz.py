"""Whatever is in the files: an answer or an error of ours, in time, and nothing written elsewhere.

Hundreds of small damages to configurations, indices, headers, adapters, tokenizers, processors,
examples and settings. None of them may end in an error that nobody wrote, or in no end at all.
"""

import json
import random
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mutants import damaged
from tiny import examples, make, tokenizer, trio

from symport.cli import _app as cli
from symport.errors import SymportError
from symport.port import check_port, make_settings, port_fine_tune
from symport.port._refusals import refuse_unused, resolve_method
from symport.settings import read_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # a damaged file may well be warned of
    pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs the alarm of POSIX"),
]

LIMIT = 120  # seconds; the slowest takes one, alone on a machine
MEMORY = 16 * 2**30  # bytes of address space, so that a size gone wild fails and spares the machine
LLAMA, BERT, VIT = "LlamaForCausalLM", "BertForSequenceClassification", "ViTForImageClassification"
KINDS = ("whole", "sharded", "adapter", BERT, VIT)
OFTEN = ("config.json", "adapter_config.json", "preprocessor_config.json")


class TooLong(BaseException):
    """No `except Exception` on the way catches it."""


@contextmanager
def limits() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def lora(folder: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, alpha_pattern={"q_proj": 3}, target_modules=["q_proj", "o_proj"]
    )
    model = peft.get_peft_model(make(LLAMA), config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(generator=torch.Generator().manual_seed(0))
    shutil.rmtree(folder)
    model.save_pretrained(folder)
    tokenizer(folder)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    for kind in KINDS:
        (root / kind).mkdir()
        trio(root / kind, kind if kind in (BERT, VIT) else LLAMA,
             **({"max_shard_size": "20KB"} if kind == "sharded" else {}))  # fmt: skip
        examples(kind if kind in (BERT, VIT) else LLAMA, root / kind)
    lora(root / "adapter" / "tuned")
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.4, 0.3], "do_normalize": True}
    for name in ("old_base", "tuned", "new_base"):
        (root / VIT / name / "preprocessor_config.json").write_text(json.dumps(processor))
    return root


def choose(home: Path, draw: random.Random) -> Path:
    """A file to damage; those that decide the most come most often."""
    place = draw.choice(["old_base", "tuned", "tuned", "new_base", "examples"])
    if place == "examples":
        return draw.choice(sorted([*home.glob("*.jsonl"), *home.glob("images/*/*")]))
    files = sorted(path for path in (home / place).iterdir() if path.is_file())
    weights = [8 if p.name in OFTEN or "index" in p.name else 2 for p in files]
    return draw.choices(files, weights)[0]


def tree(home: Path) -> set[str]:
    paths = (path.relative_to(home) for path in home.rglob("*"))
    return {str(path) for path in paths if path.parts[0] not in ("out", "out.work")}


def tried(home: Path, draw: random.Random, *, ports: bool) -> None:
    """One damage, and a check or a port of what is left."""
    path = choose(home, draw)
    is_example = path.suffix == ".jsonl" or "images" in path.parts
    what = damaged(path, draw)
    given = {name: str(home / name) for name in ("old_base", "tuned", "new_base", "out")}
    inputs = home / ("images" if (home / "images").exists() else "examples.jsonl")
    ways = {
        "check": {},
        "check with examples": {"examples": str(inputs)},
        "identity": {"method": "identity"},
        "weights": {"method": "weights"},
        "fgmt": {"examples": str(inputs), "folds": 0, "steps": 1, "micro_batch": 12},
    }
    names = [
        n for n in ways if (ports or "check" in n) and ("examples" in ways[n] or not is_example)
    ]
    way = draw.choice(names)
    before = tree(home)
    try:
        with limits():
            (check_port if "check" in way else port_fine_tune)(
                make_settings({**given, **ways[way]})
            )
    except SymportError:
        pass
    except BaseException as error:  # that it is raised at all is the failure
        raise AssertionError(f"{way} after {what}: {type(error).__name__}") from error
    assert tree(home) <= before, f"{way} after {what}"


def every(pristine: Path, home: Path, seeds: range, *, ports: bool) -> None:
    for seed in seeds:
        draw = random.Random(seed)
        shutil.copytree(pristine / draw.choice(KINDS), home)
        tried(home, draw, ports=ports)
        shutil.rmtree(home)


def test_a_check_of_damaged_files_answers_or_refuses(pristine, tmp_path):
    every(pristine, tmp_path / "x", range(60), ports=False)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1400, 50))
def test_ports_of_damaged_files_write_or_refuse(pristine, tmp_path, start):
    every(pristine, tmp_path / "x", range(start, start + 50), ports=True)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(2000, 2600, 100))
def test_more_checks_of_damaged_files_answer_or_refuse(pristine, tmp_path, start):
    every(pristine, tmp_path / "x", range(start, start + 100), ports=False)


@pytest.mark.parametrize("start", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_settings_are_read_or_refused(tmp_path, start):
    given = make_settings({"old_base": "a", "tuned": "b", "new_base": "c", "out": "d"})
    for seed in range(start, start + 100):
        draw = random.Random(seed)
        path = tmp_path / f"{seed}.yaml"
        path.write_text(given.model_dump_json())  # which is YAML too
        what, said = damaged(path, draw), ""
        try:
            with limits():
                refuse_unused(resolve_method(make_settings(read_settings(path))))
        except SymportError as error:
            said = str(error)
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}") from error
        assert len(said) < 5000, what  # however long or deep the values are


def test_the_damages_do_damage(pristine, tmp_path):
    """Most are refused, or the test would be of nothing; what is whole is not."""
    refused = 0
    for seed in range(20):
        draw = random.Random(seed)
        shutil.copytree(pristine / "sharded", tmp_path / "x")
        damaged(tmp_path / "x" / "tuned" / "config.json", draw)
        given = {name: str(tmp_path / "x" / name) for name in ("old_base", "tuned", "new_base")}
        try:
            check_port(make_settings({**given, "out": "unused"}))
        except SymportError:
            refused += 1
        shutil.rmtree(tmp_path / "x")
    assert 5 < refused < 20


def test_the_command_line_says_one_line(pristine, tmp_path, monkeypatch, capsys):
    home = tmp_path / "x"
    shutil.copytree(pristine / "whole", home)
    (home / "tuned" / "config.json").write_text("[" * 100_000)
    names = ("old_base", "tuned", "new_base")
    flags = [part for n in names for part in (f"--{n.replace('_', '-')}", str(home / n))]
    monkeypatch.setattr(sys, "argv", ["symport", "port", *flags, "--out", str(home / "out")])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "tuned/config.json: is nested too deeply" in said
    assert not (home / "out.work").exists()
