"""Records of every layout, against the texts and masks that they stand for."""

import json

import pytest
import torch
from tiny import family_of, make, save, texts, tokenizer

from symport.errors import DataError, FileError
from symport.huggingface import Folders, load_tokenizer
from symport.port import make_settings, port_fine_tune
from symport.port._with_examples import reading
from symport.tasks import make_task, read_examples
from symport.tasks._lines import Line, class_of, read_lines
from symport.tasks._records import tokens_of
from symport.tasks._texts import IGNORED

KIND = "LlamaForCausalLM"
MARKING = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '\\n' }}{% endfor %}"
)
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "well"}]
SHARED = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "well"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(make(KIND), folder)
    tokenizer(folder)
    return folder


@pytest.fixture
def read(folder, tmp_path):
    """Read records for language modelling, with another chat template if one is given."""

    def call(*records, template: str | None = "kept", kind: str = KIND, **settings):
        path = tmp_path / "x.jsonl"
        path.write_text("\n".join(map(json.dumps, records)))
        given = dict.fromkeys(("old_base", "tuned", "new_base", "out"), "x")
        family = family_of(kind)
        needs = reading(
            make_settings({**given, **settings}), str(path), Folders(*[folder] * 3), family
        )
        if template != "kept":
            needs.tokenizer.chat_template = template
        found = read_examples("causal-lm" if kind == KIND else "classification", needs)
        return needs, found

    return call


def halves(needs, examples, row=0):
    """All of a text, and the part that is counted."""
    ids, mask = examples.inputs[row]
    answer = examples.labels[row] != IGNORED
    assert (examples.labels[row][answer] == ids[answer]).all()
    return needs.tokenizer.decode(ids[mask == 1]), needs.tokenizer.decode(ids[answer])


@pytest.mark.parametrize(
    ("record", "whole", "answer"),
    [
        ({"text": "ab cd"}, "ab cd", "ab cd"),
        ({"prompt": "ab ", "completion": "cd"}, "ab cd", "cd"),
        ({"prompt": "", "completion": "cd"}, "cd", "cd"),
        ({"prompt": "ab ", "response": "cd", "text": None}, "ab cd", "cd"),
        (
            {"prompt": CHAT[:1], "completion": CHAT[1:]},
            "user: hello\nassistant: well\n",
            "assistant: well\n",
        ),
        (
            {"instruction": "hello", "input": "", "output": "well"},
            "user: hello\nassistant: well\n",
            "assistant: well\n",
        ),
        (
            {"instruction": "do", "input": "it", "output": "well", "text": "all", "system": "be",
             "history": [["a", "b"]]},
            "system: be\nuser: a\nassistant: b\nuser: do\n\nit\nassistant: well\n",
            "assistant: well\n",
        ),
        ({"messages": CHAT}, *["user: hello\nassistant: well\n"] * 2),
        ({"conversations": SHARED}, *["user: hello\nassistant: well\n"] * 2),
        (
            {"conversations": SHARED, "system": "be", "messages": None},
            *["system: be\nuser: hello\nassistant: well\n"] * 2,
        ),
    ],
)  # fmt: skip
def test_a_record_is_the_text_and_the_answer_that_it_stands_for(read, record, whole, answer):
    needs, found = read(record)
    assert halves(needs, found.examples) == (whole, answer)
    is_chat = "messages" in record or "conversations" in record
    assert any("does not mark answers" in note for note in needs.notes) == is_chat


@pytest.mark.parametrize("record", [{"messages": CHAT * 2}, {"conversations": SHARED * 2}])
def test_a_template_that_marks_answers_is_followed(read, record):
    needs, found = read(record, template=MARKING)
    whole, answer = halves(needs, found.examples)
    assert whole == "user: hello\nassistant: well\n" * 2
    assert answer == "wellwell"
    assert needs.notes == []


def test_without_a_template_instructions_are_put_in_alpacas_words(folder):
    known = load_tokenizer(folder)
    known.chat_template = None
    found = tokens_of(Line("here", {"instruction": "Greet.", "output": "well"}), known)
    prompt = (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nGreet.\n\n### Response:\n"
    )
    assert known.decode(found.ids) == prompt + "well"
    assert found.counted == [False] * len(prompt) + [True] * 4  # a letter is a token here
    values = {"instruction": "Greet.", "input": "Ann", "output": "well"}
    whole = known.decode(tokens_of(Line("here", values), known).ids)
    assert "an input that provides further context" in whole
    assert whole.endswith("### Instruction:\nGreet.\n\n### Input:\nAnn\n\n### Response:\nwell")


def test_the_loss_of_an_answer_is_that_of_transformers_without_padding(read, folder):
    records = [
        {"prompt": "a long question ", "completion": "yes"},
        {"prompt": "b", "completion": " a longer answer"},
    ]
    _, found = read(*records)
    model, task, known = make(KIND), make_task("causal-lm", None), load_tokenizer(folder)
    with torch.no_grad():
        outputs = model(**task.feed(found.examples.inputs))
        losses = task.losses(outputs, found.examples.labels)
        for record, loss in zip(records, losses, strict=True):
            whole = known(record["prompt"] + record["completion"], return_tensors="pt")["input_ids"]
            labels = whole.clone()
            labels[:, : len(record["prompt"])] = IGNORED  # a letter is a token here
            assert loss == pytest.approx(model(whole, labels=labels).loss.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "a", "answer": "b"}, "has 'question', 'answer', expected 'text', 'messages'"),
        ({"prompt": "abc"}, "has 'prompt', expected 'text'"),
        ({"prompt": 3, "completion": "b"}, "'prompt' is 3, expected a text"),
        ({"prompt": "a", "completion": ""}, "'completion' is '', expected a text"),
        ({"prompt": CHAT[:1], "completion": []}, r"'completion' is \[\], expected a list of mess"),
        ({"instruction": "a", "output": ["b"]}, r"'output' is \['b'\], expected a text"),
        ({"instruction": "a", "output": "b", "history": ["x"]}, "'history' holds 'x', expected"),
        ({"messages": "hello"}, "'messages' is 'hello', expected a list of messages"),
        ({"messages": []}, r"'messages' is \[\], expected a list of messages"),
        ({"messages": [{"content": "a"}]}, "message 1 has no 'role', only content"),
        ({"conversations": [{"from": "dog", "value": "a"}]}, "message 1 is from 'dog', none of"),
        ({"text": "a\ud800b"}, "'text' holds half a character"),
        ({"text": ["a"]}, r"'text' is \['a'\], expected a text"),
    ],
)
def test_a_record_of_no_known_layout_is_refused(read, record, message):
    with pytest.raises(DataError, match=f"line 1: {message}"):
        read(record)


def test_a_conversation_without_a_template_says_what_to_do(read, folder):
    with pytest.raises(DataError, match=rf"tokenizer in {folder} has no chat template; put the "):
        read({"messages": CHAT}, template=None)
    with pytest.raises(DataError, match=r"chat template fails on it .*Undefined"):
        read({"messages": CHAT}, template="{{ nothing.there.at.all }}")
    with pytest.raises(DataError, match="marks no token of it as an answer"):
        read({"messages": CHAT[:1]}, template=MARKING)


def test_texts_that_were_cut_are_counted_and_answers_beyond_the_cut_refused(read):
    needs, found = read({"text": "abcdefgh"}, {"text": "abc"}, {"text": "abcdefg"}, max_length=6)
    assert needs.notes == ["2 of 3 texts were cut at 6 tokens: max_length."]
    assert found.examples.inputs.shape == (3, 2, 6)
    needs, _ = read({"text": "a" * 100}, max_length=100)
    assert needs.notes == ["1 of 1 text was cut at 64 tokens: the model has no more positions."]
    with pytest.raises(DataError, match="line 1: its answer begins after the first 6 tokens"):
        read({"prompt": "abcdef", "completion": "gh"}, max_length=6)


def test_a_classifiers_text_keeps_the_tokens_at_its_end_when_it_is_cut(tmp_path):
    """As the tokenizer itself cuts."""
    transformers = pytest.importorskip("transformers")
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "b": 6, "c": 7}
    save(make("BertForSequenceClassification"), tmp_path / "m")
    (tmp_path / "m" / "vocab.txt").write_text("\n".join(words))
    known = transformers.BertTokenizerFast(str(tmp_path / "m" / "vocab.txt"))
    known.save_pretrained(tmp_path / "m")
    texted = ["a b c a b c", "a b"]
    lines = [json.dumps({"text": text, "label": 0}) for text in texted]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    given = dict.fromkeys(("old_base", "tuned", "new_base", "out"), "x")
    family = family_of("BertForSequenceClassification")
    place = Folders(*[tmp_path / "m"] * 3)
    needs = reading(make_settings({**given, "max_length": 5}), str(tmp_path / "x.jsonl"), place,
                    family)  # fmt: skip
    found = read_examples("classification", needs).examples
    expected = known(texted, truncation=True, max_length=5, padding=True, return_tensors="pt")
    assert (found.inputs[:, 0] == expected["input_ids"]).all()
    assert (found.inputs[:, 1] == expected["attention_mask"]).all()


def test_an_array_is_read_as_lines_are(tmp_path):
    records = [{"text": "one\u2028more"}, {"text": "two", "label": 1.0}]
    written = {
        "lines.jsonl": "\n".join(map(json.dumps, records)),
        "array.json": json.dumps(records, indent=2),
        "bom.json": "\ufeff" + json.dumps(records),
        "crlf.jsonl": "\r\n\r\n".join(map(json.dumps, records)) + "\r\n",
        "one.jsonl": json.dumps(records),
    }
    for name, text in written.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        assert [line.values for line in read_lines(tmp_path / name)] == records
    (tmp_path / "x.json").write_text('[{"text": "a"}, 3]')
    with pytest.raises(DataError, match=r"x\.json, record 2: expected an object"):
        read_lines(tmp_path / "x.json")
    for text, message in {
        '[{"text": "a"},\n {"text"': "not a JSON array of objects",
        "[]": "there are no examples",
        "": "there are no examples",
        '{"text": ' + "[" * 100_000: "line 1: not JSON",
        "[" * 100_000: "not a JSON array",
        '{"text": ' + "9" * 5000 + "}": "line 1: not JSON",
    }.items():
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match=message):
            read_lines(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": "\xff"}', "line 2 is not UTF-8"),
        ('{"text": "a"}'.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"\x1f\x8b\x08", "is compressed; unpack it with gunzip"),
        (b"PAR1....", "is a Parquet file"),
    ],
)
def test_a_file_that_is_no_text_says_what_to_do(tmp_path, content, message):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(FileError, match=rf"x\.jsonl: .*{message}"):
        read_lines(tmp_path / "x.jsonl")
    with pytest.raises(FileError, match="cannot be read"):
        read_lines(tmp_path)


@pytest.mark.parametrize(
    ("label", "number"),
    [("no", 0), ("yes", 1), (1, 1), (1.0, 1), ("1", 1), (True, 1), (False, 0)],
)
def test_a_class_is_told_by_its_name_or_number(label, number):
    assert class_of(label, {"no": 0, "yes": 1}, "here") == number


def test_truth_is_a_name_before_it_is_a_number():
    assert class_of(True, {"true": 0, "false": 1}, "here") == 0
    assert class_of(False, {"False": 1, "True": 0}, "here") == 1


@pytest.mark.parametrize(
    "label",
    [0.5, 2, -1, 1e300, float("nan"), float("inf"), 10**400, "2", "9" * 5000, None, [1], {}],
)
def test_what_is_no_class_is_refused(label):
    with pytest.raises(DataError, match=r"here: the label .* is none of the fine-tune's classes"):
        class_of(label, {"no": 0, "yes": 1}, "here")


def test_examples_without_finite_loss_are_named(tmp_path, monkeypatch):
    (tmp_path / "port_nan_loss.py").write_text(
        "def losses(outputs, labels):\n"
        "    values = outputs.logits[:, 0, 0] * 0\n"
        "    values[(labels == 104).any(1)] = float('{}')\n"
        "    return values\n".replace("{}", "nan")
    )
    monkeypatch.chdir(tmp_path)
    from tiny import trio

    files = trio(tmp_path, KIND)
    path = tmp_path / "x.jsonl"
    texts(path, 7)
    letter = load_tokenizer(tmp_path / "tuned").convert_ids_to_tokens(104)
    with path.open("a") as file:
        file.write("\n" + json.dumps({"text": f"ab{letter}"}))
    given = {**files, "examples": str(path), "loss": "port_nan_loss:losses"}
    with pytest.raises(DataError, match=r"x\.jsonl, line 8: the new base has the loss nan on it"):
        port_fine_tune(make_settings(given))
