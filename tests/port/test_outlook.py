"""What a few steps tell of direct training, beside what whole selections then did."""

import json

import pytest
from cases import present
from nets import source, weights
from nets_port import RULES, selection_problem
from tiny import texts, trio
from transformers import AutoModelForCausalLM

from symport.port import _check as checking
from symport.port import make_settings
from symport.port._cost import Speed
from symport.port._outlook import Outlook, tried, untried
from symport.selection import folds_of, select
from symport.selection._cross_validation import fold_name

peft = pytest.importorskip("peft")

LONG = RULES.model_copy(update={"direct_steps": 64, "learning_rates": (1e-4, 3e-3, 0.1, 10.0)})
TARGETS = {
    "independent": lambda: weights(2),
    "the old base": lambda: source(1)[0],
    "the fine-tune": lambda: source(1)[-1],
}


def ends(folder, problem, rules, start):
    """The last step that a selection evaluated on the first fold, by learning rate."""
    fold = folds_of(problem.training, rules.folds, rules.seed)[0]
    name = fold_name(problem.training.take(fold.train), problem.training.take(fold.held_out))
    paths = [folder / "direct" / f"{start}-{name}-{lr:g}.json" for lr in rules.learning_rates]
    return [max(map(int, json.loads(path.read_text()))) for path in paths]


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_fold_ends_where_it_was_expected_to(target, tmp_path):
    problem = selection_problem(TARGETS[target]())
    found = tried(problem, LONG)
    done = select(problem, LONG, folder=tmp_path)
    count = len(LONG.learning_rates)
    starts = ["direct"]
    if done.plans["then direct"].kind == "identity":
        starts.append("then-direct")
    for number, start in enumerate(starts):
        bounds = list(zip(found.least, found.most, strict=True))[number * count :][:count]
        for end, (least, most) in zip(ends(tmp_path, problem, LONG, start), bounds, strict=True):
            assert least <= end <= most
    assert any(least == most for least, most in zip(found.least, found.most, strict=True))


def test_training_that_helps_goes_on_and_training_that_harms_ends():
    rules = LONG.model_copy(update={"learning_rates": (1e-3, 1e3)})
    found = tried(selection_problem(quiet()), rules)
    assert found.least == (16, 2) * 2
    assert found.most == (64, 2) * 2
    assert found.finals == ((4, 64),) * 2


def quiet():
    """A base that knows nothing yet, near which every gradient helps."""
    return {name: 0.3 * tensor for name, tensor in weights(2).items()}


def test_nothing_is_tried_where_nothing_trains():
    for change in ({"folds": 0}, {"direct_steps": 0}):
        rules = RULES.model_copy(update=change)
        assert tried(selection_problem(), rules) == untried(rules) == Outlook()


def test_a_base_of_no_finite_loss_is_left_to_the_port():
    broken = {name: tensor * 1e30 for name, tensor in weights(2).items()}
    assert tried(selection_problem(broken), RULES) == untried(RULES)


# PEFT asks transformers for something by its former name.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("adapter", [False, True])
def test_check_tries_what_the_port_will_do(adapter, tmp_path, monkeypatch):
    """Rates that only harm cost less than rates that help; every evaluation takes a second."""
    monkeypatch.setattr(checking, "speed_of", lambda *_, **__: Speed(1.0, 1.0, 0.0, 0.0, 0.0, 0))
    files = trio(tmp_path, "LlamaForCausalLM")
    if adapter:
        base = AutoModelForCausalLM.from_pretrained(files["old_base"])
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
        peft.get_peft_model(base, config).save_pretrained(tmp_path / "lora")
        files["tuned"] = str(tmp_path / "lora")
    examples = texts(tmp_path / "few.jsonl", 24)
    how = {**files, "examples": examples, "method": "identity"}

    def cost(lr):
        return checking.check_port(make_settings({**how, "learning_rates": (lr,)})).cost

    helps, harms = cost(1e-3), cost(1e4)
    assert present(harms.seconds) < present(helps.seconds) < present(helps.most_seconds)
    assert helps.most_seconds == harms.most_seconds
