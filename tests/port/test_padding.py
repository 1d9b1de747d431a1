"""A classifier without a token for padding, against transformers and PEFT on one text at a time."""

import json
from pathlib import Path

import pytest
import torch
from cases import present
from tiny import TEXT, changed, make, save, shuffled, tokenizer, transformers

from symport.errors import DataError
from symport.huggingface import Family, Folders, load_tokenizer
from symport.port import make_settings, port_fine_tune
from symport.port._with_examples import reading
from symport.tasks import make_task, read_examples, valid_pad
from symport.tasks._lines import Line
from symport.tasks._texts import read_texts

BASE, KIND = "LlamaForCausalLM", "LlamaForSequenceClassification"
NONE = {"pad_token_id": None, "num_labels": 3, "eos_token_id": 1}
# Texts of several lengths, some with the end of text in and after them.
TEXTS = [
    "ab",
    "a longer text<eos>",
    "abc<eos>d",
    "b",
    "one more<eos>",
    "cd efg hi",
    "x<eos><eos>y",
    "z",
]


def classifier(base, seed=3):
    """A decoder with a head for three classes on the body of a language model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.LlamaForSequenceClassification(replace_config(base.config)).eval()
    model.model.load_state_dict(base.model.state_dict())
    return model


def replace_config(config):
    known = transformers.LlamaConfig(**{**config.to_dict(), **NONE})
    known.use_cache = False
    return known


def lines(path: Path) -> str:
    records = [{"text": text, "label": k % 3} for k, text in enumerate(TEXTS)]
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


def alone(model, known):
    """What transformers says of each text without any other beside it, and without padding."""
    found = []
    with torch.no_grad():
        for k, text in enumerate(TEXTS):
            tokens = known(text, return_tensors="pt")["input_ids"]
            found.append(model(tokens, labels=torch.tensor([k % 3])).loss)
    return torch.stack(found)


@pytest.fixture
def files(tmp_path):
    old = make(BASE, pad_token_id=None, eos_token_id=1)
    new = shuffled(make(BASE))
    new.config.pad_token_id = None
    tuned = classifier(changed(old))
    for name, model in {"old_base": old, "tuned": tuned, "new_base": new}.items():
        save(model, tmp_path / name)
        tokenizer(tmp_path / name)
    return {n: str(tmp_path / n) for n in ("old_base", "tuned", "new_base", "out")}


def test_padded_texts_have_the_losses_of_each_alone(files, tmp_path):
    tuned = transformers.LlamaForSequenceClassification.from_pretrained(files["tuned"]).eval()
    assert tuned.config.pad_token_id is None
    family = Family(type(tuned), tuned.config)
    place = Folders(*(Path(files[name]) for name in ("old_base", "tuned", "new_base")))
    expected = alone(tuned, load_tokenizer(place.tuned))
    needs = reading(make_settings(files), lines(tmp_path / "x.jsonl"), place, family)
    examples, task = (
        read_examples("classification", needs).examples,
        make_task("classification", None),
    )
    pad = tuned.config.pad_token_id
    assert pad == 0  # the tokenizer's own; no text holds it
    assert any("has no pad_token_id" in note and f"{pad} ('<pad>')" in note for note in needs.notes)
    with torch.no_grad():
        found = task.losses(tuned(**task.feed(examples.inputs)), examples.labels)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_pad_that_stands_in_texts_is_passed_over(files, tmp_path):
    """The end of text, which most people take, is the answer's place here."""
    tuned = transformers.LlamaForSequenceClassification.from_pretrained(files["tuned"]).eval()
    family = Family(type(tuned), tuned.config)
    place = Folders(*(Path(files[name]) for name in ("old_base", "tuned", "new_base")))
    needs = reading(make_settings(files), lines(tmp_path / "x.jsonl"), place, family)
    needs.tokenizer.pad_token = "<eos>"
    expected = alone(tuned, needs.tokenizer)
    examples, task = (
        read_examples("classification", needs).examples,
        make_task("classification", None),
    )
    assert tuned.config.pad_token_id == 2  # <unk>
    assert not (examples.inputs[:, 0] == 2)[examples.inputs[:, 1] == 1].any()
    with torch.no_grad():
        outputs = tuned(**task.feed(examples.inputs))
        assert torch.allclose(task.losses(outputs, examples.labels), expected, atol=1e-5)
        tuned.config.pad_token_id = 1  # the witness can tell
        other = task.losses(tuned(**task.feed(examples.inputs)), examples.labels)
    assert (other - expected).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("adapter", [False, True])
def test_a_port_reports_the_losses_that_the_libraries_give_and_writes_the_pad(
    adapter, files, tmp_path
):
    peft = pytest.importorskip("peft")
    if adapter:
        base = classifier(make(BASE, pad_token_id=None, eos_token_id=1))
        config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj", "down_proj"])
        model = peft.get_peft_model(base, config)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if "lora_B" in name:
                    tensor.normal_(generator=torch.Generator().manual_seed(0))
        for path in Path(files["tuned"]).iterdir():
            path.unlink()
        save(model, Path(files["tuned"]))
        tokenizer(files["tuned"])
        tuned = model.eval()
    else:
        tuned = transformers.LlamaForSequenceClassification.from_pretrained(files["tuned"]).eval()
    given = {**files, "folds": 0, "steps": 1, "micro_batch": 4, "held_out": 0.99 - 1 / 8}
    found = port_fine_tune(make_settings({**given, "examples": lines(tmp_path / "x.jsonl")}))
    expected = alone(tuned, load_tokenizer(Path(files["old_base"])))
    losses = present(found.outcome).source_end.losses
    assert len(losses) >= 6
    nearest = (losses[:, None] - expected[None].double()).abs().min(1).values
    assert nearest.max() < 1e-4
    assert any("pad_token_id" in sentence for sentence in found.verdict)
    if adapter:
        assert not (found.folder / "config.json").exists()
        return
    written = transformers.LlamaForSequenceClassification.from_pretrained(found.folder).eval()
    assert written.config.pad_token_id == 0
    batch = load_tokenizer(found.folder)(TEXTS, padding=True, return_tensors="pt")
    singles = alone(written, load_tokenizer(found.folder))
    with torch.no_grad():
        scores = written(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
    labels = torch.arange(len(TEXTS)) % 3
    together = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    assert torch.allclose(together, singles, atol=1e-5)


@pytest.mark.parametrize(("pad", "valid"), [(None, None), (-1, None), (260, None), (3, 3), (0, 0)])
def test_a_pad_beyond_the_vocabulary_is_none(pad, valid):
    config = transformers.LlamaConfig(**TEXT)
    config.pad_token_id = pad
    assert valid_pad(config) == valid


def test_texts_that_hold_every_token_leave_none(tmp_path):
    tokenizer(tmp_path)
    config = transformers.LlamaConfig(**{**TEXT, "vocab_size": 3, "pad_token_id": None})
    how = {"max_length": 9, "answers": False, "pads": True}
    lines = [Line("here", {"text": "<pad><eos><unk>"})]
    with pytest.raises(DataError, match="hold all 3 tokens of the vocabulary"):
        read_texts(lines, load_tokenizer(tmp_path), config, **how)
    config.vocab_size = 4
    assert read_texts(lines, load_tokenizer(tmp_path), config, **how).pad == 3
