"""A small BERT: masked words of three kinds of text, then classification of the kind."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from symport.data import Labelled
from symport.selection import Task
from symport.tasks import make_task
from symport_recipes.ports._scene import Scene, learned, spared
from symport_recipes.ports._texts import read, tokens_of, windows
from symport_recipes.training import Draw, Pace, Watch, drawn_from, kept, made_by, train_

KINDS = ("shakespeare", "wiki", "problems")
LENGTH = 16
WORDS = 1024
MASK, PAD = "[MASK]", "[PAD]"
HIDDEN = 0.25  # share of words to guess: more than BERT's .15, for the texts are short
UNSEEN = -100
SHAPE: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 1,
}
BASE = Pace(steps=1000, lr=2e-3, batch_size=64, warmup=100)
CONTINUED = Pace(steps=150, lr=1e-3, batch_size=64)
TUNED = Pace(steps=300, lr=5e-4, batch_size=64)
POOL, REPORTING = 6000, 1500


def bert(cache: Path, watch: Watch = None) -> dict[str, Scene]:
    """The scene `bert`. What is not in the cache is trained: 8 minutes on a core."""
    texts = [_plain(read(kind)) for kind in KINDS]
    tokenizer = word_tokenizer(texts)
    streams = [tokens_of(text, tokenizer) for text in texts]
    pool, reporting = (_snippets(streams, part) for part in ("pool", "reporting"))

    def masked(name: str, start: Path | int, pace: Pace, seed: int) -> Path:
        recipe = {"shape": SHAPE, "start": made_by(start), "pace": pace, "seed": seed}

        def make() -> list[Any]:
            model = _masked_model(start)
            guess = Task(make_task("classification", None).feed, _guess_losses)
            train_(model, guess, _hidden(drawn_from(pool)), pace, seed=seed, progress=watch)
            return [model.bert, tokenizer]

        return kept(cache / name, recipe, make)

    old = masked("bert-a", 0, BASE, 0)
    targets = {
        "independent": masked("bert-b", 1, BASE, 1),
        "continued": masked("bert-a-continued", old, CONTINUED, 20),
    }

    def classify() -> list[Any]:
        model = _classifier(old)
        task = make_task("classification", None)
        train_(model, task, drawn_from(pool.take(seen)), TUNED, seed=10, progress=watch)
        return [model, tokenizer]

    seen = learned(len(pool))
    recipe = {"start": made_by(old), "pace": TUNED, "examples": len(seen)}
    tuned = kept(cache / "bert-a-tuned", recipe, classify)
    unseen = pool.take(spared(len(pool)))
    return {"bert": Scene("classification", old, tuned, targets, unseen, reporting)}


def word_tokenizer(texts: Sequence[str]) -> Any:
    """A tokenizer of transformers whose words are the most frequent pieces of some texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[MASK, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=MASK, pad_token=PAD)


def _plain(text: str) -> str:
    """Lower-case letters only: punctuation and digits would identify the kinds."""
    return " ".join(re.findall("[a-z]+", text.lower().replace("<unk>", " ")))


def _snippets(streams: Sequence[Tensor], part: str) -> Labelled:
    """Stretches of each kind with its number; those that report come from the last tenth."""
    count = (POOL if part == "pool" else REPORTING) // len(streams)
    inputs: list[Tensor] = []
    for tokens in streams:
        edge = int(0.9 * len(tokens))
        own = tokens[:edge] if part == "pool" else tokens[edge:]
        places = torch.linspace(0, len(own) - LENGTH, count).long()
        inputs.append(windows(own, places, LENGTH).inputs)
    labels = torch.arange(len(streams)).repeat_interleave(count)
    return Labelled(torch.cat(inputs), labels)


def _hidden(draw: Draw) -> Draw:
    """Mask some words; the labels are those words."""

    def drawn(count: int, generator: Generator) -> Labelled:
        inputs = draw(count, generator).inputs
        words = inputs[:, 0]
        is_hidden = torch.rand(words.shape, generator=generator) < HIDDEN
        shown = torch.stack([words.masked_fill(is_hidden, 0), inputs[:, 1]], 1)
        return Labelled(shown, words.masked_fill(~is_hidden, UNSEEN))

    return drawn


def _guess_losses(outputs: Any, labels: Tensor) -> Tensor:
    logits = outputs.prediction_logits.transpose(1, 2)
    values = functional.cross_entropy(logits, labels, reduction="none", ignore_index=UNSEEN)
    return values.sum(1) / (labels != UNSEEN).sum(1).clamp(min=1)


def _masked_model(start: Path | int) -> Any:
    """With a pooler, which masked language modelling does not train."""
    from transformers import BertConfig, BertForPreTraining

    if isinstance(start, int):
        torch.manual_seed(start)
        return BertForPreTraining(BertConfig(**SHAPE))
    torch.manual_seed(0)
    return BertForPreTraining.from_pretrained(start)


def _classifier(base: Path) -> Any:
    from transformers import BertForSequenceClassification

    torch.manual_seed(10)
    return BertForSequenceClassification.from_pretrained(base, num_labels=len(KINDS))
