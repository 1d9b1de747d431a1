import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from cases import present, seeded
from tiny import CONFIGS, family_of, make, pictures, save, texts, tokenizer
from torch.nn import functional

from symport.errors import DataError, SettingsError
from symport.huggingface import Folders, load_tokenizer
from symport.model import LossGradient, hidden_states, linear_cka
from symport.port import make_settings
from symport.port._with_examples import reading
from symport.tasks import make_task, read_examples, read_inputs, resolve_task
from symport.tasks._lines import read_lines
from symport.tasks._tasks import causal_losses
from symport.tasks._texts import IGNORED

BERT = "BertForSequenceClassification"


def needs(kind, reference, folder, **settings):
    save(make(kind), folder / "m")
    tokenizer(folder / "m")
    given = dict.fromkeys(("old_base", "tuned", "new_base", "out"), "x")
    place = Folders(*[folder / "m"] * 3)
    return reading(make_settings({**given, **settings}), str(reference), place, family_of(kind))


def test_the_loss_of_a_text_is_the_mean_over_its_tokens_after_the_first():
    scores = torch.randn(2, 4, 5, generator=seeded(0))
    labels = torch.tensor([[1, 2, 3, 4], [0, 3, IGNORED, IGNORED]])
    found = causal_losses(SimpleNamespace(logits=scores), labels)
    odds = scores.log_softmax(-1)
    first = -(odds[0, 0, 2] + odds[0, 1, 3] + odds[0, 2, 4]) / 3
    assert torch.allclose(found, torch.stack([first, -odds[1, 0, 3]]))


def test_a_text_has_the_loss_that_transformers_gives_it_alone(tmp_path):
    """Whatever longer texts stand beside it: padding counts for nothing."""
    kind = "LlamaForCausalLM"
    lines = [{"text": "abcd"}, {"text": "a longer line"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = read_examples("causal-lm", needs(kind, tmp_path / "x.jsonl", tmp_path)).examples
    model, task = make(kind), make_task("causal-lm", None)
    with torch.no_grad():
        found = task.losses(model(**task.feed(data.inputs)), data.labels)
        for line, loss in zip(lines, found, strict=True):
            tokens = load_tokenizer(tmp_path / "m")(line["text"], return_tensors="pt")["input_ids"]
            assert loss == pytest.approx(model(tokens, labels=tokens).loss.item(), rel=1e-4)


def test_messages_go_through_the_template_and_long_texts_are_cut(tmp_path):
    message = {"messages": [{"role": "user", "content": "hello"}]}
    (tmp_path / "x.jsonl").write_text(json.dumps(message))
    given = needs("LlamaForCausalLM", tmp_path / "x.jsonl", tmp_path, max_length=7)
    data = read_examples("causal-lm", given).examples
    assert given.tokenizer.decode(data.inputs[0, 0]) == "user: h"


def test_a_text_is_cut_where_the_model_has_no_more_positions(tmp_path):
    kind = "GPT2LMHeadModel"
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "abc " * 100}))
    data = read_examples("causal-lm", needs(kind, tmp_path / "x.jsonl", tmp_path)).examples
    assert data.inputs.shape == (1, 2, make(kind).config.n_positions)


def test_only_line_feeds_part_lines_and_a_byte_order_mark_is_passed_over(tmp_path):
    lines = ["one\u2028and\x85more", "two"]
    written = "\r\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in lines)
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + written.encode())
    assert [line.values["text"] for line in read_lines(tmp_path / "x.jsonl")] == lines


def test_classes_are_read_by_name_or_number_and_judged(tmp_path):
    lines = [{"text": "abc", "label": label} for label in ("LABEL_2", 1, "0")]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = read_examples("classification", needs(BERT, tmp_path / "x.jsonl", tmp_path)).examples
    assert data.labels.tolist() == [2, 1, 0]
    model, task = make(BERT), make_task("classification", None)
    with torch.no_grad():
        outputs = model(**task.feed(data.inputs))
    expected = functional.cross_entropy(outputs.logits, data.labels)
    assert task.losses(outputs, data.labels).mean() == pytest.approx(expected.item())
    assert present(task.right)(outputs, data.labels).tolist() == [
        bool(row.argmax() == label) for row, label in zip(outputs.logits, data.labels, strict=True)
    ]


def test_classes_without_names_get_those_that_are_given(tmp_path):
    lines = [{"text": "abc", "label": label} for label in ("dog", 0, "bee", True)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = needs(BERT, tmp_path / "x.jsonl", tmp_path, labels=["ape", "bee", "dog"])
    found = read_examples("classification", given)
    assert found.examples.labels.tolist() == [2, 0, 1, 1]
    assert list(found.classes) == ["ape", "bee", "dog"]
    with pytest.raises(
        DataError, match=r"'dog' is none .* LABEL_2; it has no names .*--set labels=a,b"
    ):
        read_examples("classification", replace(given, labels=()))
    for labels in (["a", "b"], ["a", "b", "a"]):
        with pytest.raises(SettingsError, match=r"labels: 2 names .*, but the fine-tune has 3"):
            read_examples("classification", replace(given, labels=tuple(labels)))


def test_images_are_scaled_and_centred_as_the_processor_says(tmp_path):
    kind = "ViTForImageClassification"
    pictures(tmp_path / "images", 1)
    given = needs(kind, tmp_path / "images", tmp_path)
    plain = read_examples("image", given).examples
    assert plain.inputs.shape == (3, 3, 16, 16)
    assert plain.labels.tolist() == [0, 1, 2]
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.2, 0.2, 0.4]}
    (given.folder / "preprocessor_config.json").write_text(json.dumps(settings))
    shares = 0.5 * plain.inputs + 0.5  # back to [0, 1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in settings.values())
    assert torch.allclose(read_inputs("image", given), (shares - mean) / std, atol=1e-5)


def test_another_loss_may_take_the_place_of_the_tasks_own(tmp_path, monkeypatch):
    code = "def first(outputs, labels):\n    return outputs.logits[:, 0, 0]\n"
    (tmp_path / "my_port_loss.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    task = make_task("causal-lm", "my_port_loss:first")
    scores = SimpleNamespace(logits=torch.arange(8.0).reshape(2, 2, 2))
    assert task.losses(scores, torch.zeros(2)).tolist() == [0.0, 4.0]
    assert task.right is None
    with pytest.raises(SettingsError, match="my_port_loss"):
        make_task("causal-lm", "my_port_loss:second")


@pytest.mark.parametrize("kind", CONFIGS)
def test_recomputing_activations_gives_the_gradients_of_plain_training(kind):
    tokens = torch.randint(3, 260, (3, 9), generator=seeded(0))
    inputs, labels = torch.stack([tokens, torch.ones_like(tokens)], 1), torch.arange(3)
    if kind.startswith("ViT"):
        inputs = torch.rand(3, 3, 16, 16, generator=seeded(0))
    elif not kind.startswith("Bert"):
        labels = tokens
    task = make_task(resolve_task("auto", kind), None)

    def loss(outputs, labels):
        return task.losses(outputs, labels).mean()

    plain = make(kind, seed=1)
    loss(plain(**task.feed(inputs)), labels).backward()
    gradient = LossGradient(
        make(kind), loss, [(task.feed(inputs), labels)], activation_checkpointing=True
    )
    found = gradient(plain.state_dict(), 0)
    expected = {name: parameter.grad for name, parameter in plain.named_parameters()}
    assert all(torch.allclose(found[n], g, atol=1e-6) for n, g in expected.items())


def test_a_task_follows_from_the_architecture():
    assert resolve_task("auto", "GPT2LMHeadModel") == "causal-lm"
    assert resolve_task("image", "GPT2LMHeadModel") == "image"


def test_cka_is_blind_to_rotations_and_sees_differences():
    x, y = torch.randn(2, 200, 6, generator=seeded(0)).double()
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=seeded(1)).double()).Q
    assert linear_cka(x, 2 * x @ rotation + 1) == pytest.approx(1)
    centred = x - x.mean(0), y - y.mean(0)
    cross, own, other = (a.T @ b for a, b in ((centred[1], centred[0]), [centred[0]] * 2,
                                              [centred[1]] * 2))  # fmt: skip
    assert linear_cka(x, y) == pytest.approx(float(cross.norm() ** 2 / own.norm() / other.norm()))
    assert linear_cka(x, torch.ones(200, 2)) == 0


def test_hidden_states_leave_the_padding_out(tmp_path):
    model = make(BERT)
    given = needs(BERT, texts(tmp_path / "x.jsonl", 3), tmp_path)
    inputs = read_inputs("classification", given)
    feed = make_task("classification", None).feed
    states = hidden_states(model, model.state_dict(), [feed(inputs)])
    assert [len(state) for state in states] == [int(inputs[:, 1].sum())] * 2
