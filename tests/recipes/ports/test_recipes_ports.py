"""Porting between small transformers: training, texts, running, the page."""

import json
from typing import Any

import pytest
import torch
from nets_port import selection_problem
from torch import Generator, nn

from symport.data import Labelled
from symport.errors import FileError, SettingsError
from symport.matching import Pair
from symport.selection import Task
from symport.settings import Rules, checked
from symport.tasks import make_task
from symport_recipes.ports import Options, Ports
from symport_recipes.ports import _experiment as module
from symport_recipes.ports import _options as options
from symport_recipes.ports._page import WAYS, page, picture, read_options
from symport_recipes.ports._running import Found, run_one, with_activity
from symport_recipes.ports._scene import Scene
from symport_recipes.ports._texts import anywhere, byte_tokenizer, disjoint, tokens_of
from symport_recipes.runner import run
from symport_recipes.setups import Bench
from symport_recipes.training import Pace, drawn_from, kept, made_by, train_
from symport_recipes.training._schedule import learning_rate

TINY = {
    "vocab_size": 257,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.slope * x


class Files:
    def __init__(self) -> None:
        self.made = 0

    def save_pretrained(self, folder) -> None:
        self.made += 1
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(str(self.made))


def llama(seed: int, folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    model.save_pretrained(folder)
    return model


def found(way_losses=(), **fields) -> Found:
    losses = {
        **dict.fromkeys(WAYS, 2.75),
        "old base": 3.0,
        "fine-tune": 2.0,
        "untouched": 3.0,
        "direct": 2.5,
    }
    plain = {"scene": "llama", "target": "independent", "count": 16, "seed": 0, "accuracies": {}}
    rest = {"plans": {}, "pick": "direct", "moved": 0.5, "seconds": 1.0}
    return Found(**{**plain, **rest, "losses": {**losses, **dict(way_losses)}, **fields})


def test_the_rate_warms_up_and_ends_near_zero():
    rates = [learning_rate(t, lr=2.0, ticks=100, warmup=10, schedule="cosine") for t in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (k + 1) for k in range(10)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.002


def test_training_finds_a_planted_slope_and_leaves_the_model_in_evaluation_mode():
    x = torch.linspace(-1, 1, 32)
    task = Task(lambda inputs: {"x": inputs}, lambda outputs, labels: (outputs - labels) ** 2)
    model, seen = Line(), []
    pace = Pace(steps=200, lr=0.1, warmup=5, weight_decay=0.0)
    train_(
        model,
        task,
        drawn_from(Labelled(x, 3 * x)),
        pace,
        seed=0,
        progress=lambda *step: seen.append(step),
    )
    assert model.slope.item() == pytest.approx(3, abs=0.01)
    assert not model.training
    assert [step for step, _ in seen] == list(range(1, 201))


def test_a_folder_is_made_once_for_each_recipe(tmp_path):
    files = Files()
    for pace in (Pace(steps=1, lr=1.0), Pace(steps=1, lr=1.0), Pace(steps=2, lr=1.0)):
        folder = kept(tmp_path / "net", {"pace": pace}, lambda: [files])
    assert (folder / "config.json").read_text() == "2"
    assert made_by(folder)["pace"]["steps"] == 2
    assert made_by(7) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("name", ["net", "net-unfinished"])
def test_a_folder_that_no_recipe_made_is_left_alone(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("precious")
    with pytest.raises(FileError, match=f"{name}: exists, and no recipe made it"):
        kept(tmp_path / "net", {}, lambda: [Files()])
    assert (tmp_path / name / "notes.txt").read_text() == "precious"


def test_every_byte_is_a_token_of_its_own():
    text = "To be,\n = Né – © = "
    tokens = tokens_of(text, byte_tokenizer())
    assert len(tokens) == len(text.encode())
    assert byte_tokenizer().decode(tokens) == text
    assert len(byte_tokenizer()) == 257


def test_stretches_are_of_the_text_and_disjoint_ones_do_not_overlap():
    text = torch.arange(1000)
    some = anywhere(text, 7)(50, Generator().manual_seed(0)).labels
    assert torch.equal(some, some[:, :1] + torch.arange(7))
    rows = disjoint(text, 7, 100)
    assert rows.labels.unique().numel() == 700
    assert torch.equal(rows.inputs[:, 0], rows.labels)
    assert bool((rows.inputs[:, 1] == 1).all())


def test_a_fine_tune_goes_home_by_the_identity(tmp_path):
    model = llama(0, tmp_path / "old")
    llama(0, tmp_path / "new")
    text = disjoint(torch.arange(7 * 40) % 11, 7, 40)
    train_(model, make_task("causal-lm", None), drawn_from(text), Pace(steps=20, lr=0.01), seed=0)
    model.save_pretrained(tmp_path / "tuned")
    with torch.no_grad():
        expected = model(input_ids=text.inputs[:, 0], labels=text.labels).loss
    scene = Scene(
        "causal-lm", tmp_path / "old", tmp_path / "tuned", {"same": tmp_path / "new"}, text, text
    )
    given = {"steps": 1, "scales": (1.25,), "folds": 2, "direct_steps": 1}
    rules = checked(Rules, {**given, "learning_rates": (1e-6,)})
    result = run_one("llama", scene, "same", rules, 16)
    assert result.losses["fine-tune"] == pytest.approx(float(expected), rel=1e-4)
    assert result.losses["untouched"] == pytest.approx(result.losses["old base"])
    for way in ("identity", "weights", "activations", "transfer"):
        assert result.share(way) >= 0.99
    assert result.pick in ("identity", "then direct")


@pytest.mark.parametrize("steps", [1.0, 0.5, 8.0])
def test_activations_count_as_so_many_steps_whose_gradients_have_length_one(steps):
    case = with_activity(selection_problem(), steps)
    pairs = [pair for pair in case.also if isinstance(pair, Pair)]
    assert len(pairs) == len(case.also) > 0
    sizes = [
        [sum(float(x.double().square().sum()) for x in side.values()) ** 0.5 for side in sides]
        for sides in ((pair.target, pair.source) for pair in pairs)
    ]
    says = [pair.weight * a * b for pair, (a, b) in zip(pairs, sizes, strict=True)]
    assert sum(says) == pytest.approx(steps)


def test_the_page_shows_shares_picks_and_a_picture():
    runs = [found(), found({"direct": 2.3}.items(), seed=1), found(count=64, pick="identity")]
    text = page(runs, "# Head", ["The end."])
    assert "### To the independent base" in text
    assert "| direct training | 60.0\u2009±\u200914.1 | 50.0 |" in text
    assert "\n| picked by the examples | direct training 2× | identity 1× |" in text
    assert "old base 3.000, its fine-tune 2.000, new base 3.000" in text
    assert picture(runs).startswith(b"\x89PNG")


def test_a_classifier_also_shows_its_right_answers():
    right = dict.fromkeys((*WAYS, "old base", "fine-tune", "untouched"), 0.25)
    runs = [found(accuracies=right), found(accuracies={**right, "direct": 0.75}, seed=1)]
    text = page(runs, "# Head", [])
    assert "| right answers, % | 16 examples, 2× |" in text
    assert "| direct training | 50.0\u2009±\u200935.4 |" in text
    assert "right answers" not in page([found()], "# Head", [])


def test_runs_that_are_in_the_file_are_not_run_again(tmp_path, monkeypatch):
    unread: Any = None  # what reads the examples is replaced below
    scene = Scene("causal-lm", tmp_path, tmp_path, {"b": tmp_path}, unread, unread)
    calls = []

    def run_one(name, scene, target, rules, count):
        calls.append((name, target, count, rules.seed))
        return found(scene=name, target=target, count=count, seed=rules.seed)

    monkeypatch.setattr(module, "run_one", run_one)
    monkeypatch.setattr(
        module, "scenes", lambda family, folder: dict.fromkeys(module.SCENES[family], scene)
    )
    every, bench = range(module.SEEDS), Bench(tmp_path / "cache")
    run(Ports("llama"), tmp_path, every, bench, progress=False)
    assert len(calls) == len(set(calls)) == 2 * 2 * len(module.COUNTS) * module.SEEDS
    path = tmp_path / "ports" / "llama.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    run(Ports("llama"), tmp_path, every, bench, progress=False)
    assert calls[-1] == ("llama", "continued", 256, 2)
    assert len(calls) == 37
    assert (tmp_path / "ports.md") in Ports("llama").publish(tmp_path)


def test_an_option_is_kept_at_the_place_of_its_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "scenes", lambda family, folder: {"llama": None})
    monkeypatch.setattr(options, "shares", lambda scene, option, seed: (0.5 + seed, 0.25))
    bench = Bench(tmp_path / "cache")
    found = run(Options(), tmp_path, [0, 1], bench, progress=False)
    assert found[-1] == [1.5, 0.25]
    assert read_options(tmp_path)["GMT"] == [[0.5, 0.25], [1.5, 0.25]]
    with pytest.raises(SettingsError, match="seed 3 before seed 2; run that first"):
        run(Options(), tmp_path, [3], bench, progress=False)
