"""Real text as bytes: Tiny Shakespeare, WikiText-2 and the problems of GSM8K."""

import json
from typing import Any

import torch
from torch import Generator, Tensor

from symport.data import Labelled
from symport_recipes.data import find_data
from symport_recipes.training import Draw

END = "<|end|>"


def read(name: str) -> str:
    """A text by its name: `shakespeare`, `wiki` (validation), `wiki-test`, `problems`."""
    beside = find_data("cifar10").parent
    if name == "shakespeare":
        return (beside / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    if name in ("wiki", "wiki-test"):
        file = "valid.txt" if name == "wiki" else "test.txt"
        return (beside / "wikitext-2-valid-test" / file).read_text(encoding="utf-8")
    lines = (beside / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return "\n".join(json.loads(line)["question"] for line in lines)


def byte_tokenizer() -> Any:
    """A tokenizer of transformers with a token for each byte, and one for the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*letters, END])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def tokens_of(text: str, tokenizer: Any) -> Tensor:
    """The tokens of a text, `(n,)`."""
    return torch.tensor(tokenizer(text, verbose=False)["input_ids"])


def windows(tokens: Tensor, starts: Tensor, length: int) -> Labelled:
    """Windows of a text as examples of language modelling, without padding."""
    rows = tokens[starts[:, None] + torch.arange(length)]
    return Labelled(torch.stack([rows, torch.ones_like(rows)], 1), rows)


def anywhere(tokens: Tensor, length: int) -> Draw:
    """Draw windows at random positions."""

    def draw(count: int, generator: Generator) -> Labelled:
        starts = torch.randint(len(tokens) - length, (count,), generator=generator)
        return windows(tokens, starts, length)

    return draw


def disjoint(tokens: Tensor, length: int, count: int) -> Labelled:
    """Disjoint windows, spread evenly over a text."""
    places = torch.linspace(0, len(tokens) // length - 1, count).long()
    return windows(tokens, places * length, length)
