"""What a fine-tune was made for, and how examples of it are read and judged."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from symport.batches import Labelled
from symport.errors import DataError, SettingsError
from symport.loading import load_examples, load_function
from symport.port.contest import Task
from symport.port.examples import (
    Line,
    Picturing,
    class_of,
    load_images,
    read_images,
    read_lines,
    text_of,
)

IGNORED = -100  # as in transformers: a position without a label
SUFFIXES = {
    "causal-lm": ("ForCausalLM", "LMHeadModel"),
    "classification": ("ForSequenceClassification",),
    "image": ("ForImageClassification",),
}


@dataclass(frozen=True)
class Reading:
    """What is needed to read examples.

    Attributes:
        reference: The file or folder.
        config: The fine-tune's configuration.
        tokenizer: Of the fine-tune; None if it has none.
        folder: The fine-tune's folder.
        max_length: Tokens of a text.
    """

    reference: str
    config: Any
    tokenizer: Any
    folder: Path
    max_length: int


def task_named(name: str, architecture: str) -> str:
    """The task itself, or for `"auto"` what an architecture is for.

    Raises:
        SettingsError: The architecture says nothing that is known here.

    Example:
        >>> task_named("auto", "LlamaForCausalLM")
        'causal-lm'
    """
    if name != "auto":
        return name
    for task, suffixes in SUFFIXES.items():
        if architecture.endswith(suffixes):
            return task
    raise SettingsError(
        f"{architecture} is for none of {', '.join(SUFFIXES)}; give the examples as arrays and a "
        "loss: --task arrays --loss module:function"
    )


def make_task(name: str, loss: str | None) -> Task:
    """How a task feeds and judges, with another loss if one is named.

    Raises:
        SettingsError: There is no such function, or arrays come without a loss.
    """
    if name == "arrays" and loss is None:
        raise SettingsError("the task 'arrays' needs a loss: --loss module:function")
    tasks = {
        "causal-lm": Task(_feed_text, causal_losses),
        "classification": Task(_feed_text, class_losses, _hits),
        "image": Task(_feed_images, class_losses, _hits),
        "arrays": Task(_feed_as_is, class_losses),
    }
    task = tasks[name]
    return task if loss is None else Task(task.feed, load_function(loss))


def read_examples(name: str, reading: Reading) -> Labelled:
    """All examples of a task, in the order of their file.

    Raises:
        FileError: The file or folder cannot be read.
        DataError: An example is not what the task needs; the message says where.
        SettingsError: There is no tokenizer.
    """
    readers: dict[str, Callable[[Reading], Labelled]] = {
        "causal-lm": _read_texts,
        "classification": _read_classified,
        "image": _read_images,
        "arrays": lambda reading: load_examples(reading.reference),
    }
    return readers[name](reading)


def read_inputs(name: str, reading: Reading) -> Tensor:
    """The inputs alone, where no labels are needed.

    Raises:
        FileError: As `read_examples`.
        DataError: As `read_examples`.
        SettingsError: As `read_examples`.
    """
    if name in ("causal-lm", "classification"):
        return _texts(reading, read_lines(reading.reference))
    if name == "image":
        paths = [path for path, _ in read_images(reading.reference)]
        return load_images(paths, _picturing(reading))
    return load_examples(reading.reference).inputs


def causal_losses(outputs: Any, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of each text's tokens after its first, `(n,)`, in nats.

    Args:
        outputs: With `logits`, `(n, length, vocabulary)`.
        labels: Tokens, `(n, length)`, -100 where there are none.
    """
    wanted = labels[:, 1:]
    logits = outputs.logits[:, :-1].transpose(1, 2)
    if logits.dtype.itemsize < torch.float32.itemsize:
        logits = logits.float()
    values = functional.cross_entropy(logits, wanted, reduction="none", ignore_index=IGNORED)
    return values.sum(1) / (wanted != IGNORED).sum(1)


def class_losses(outputs: Any, labels: Tensor) -> Tensor:
    """The negative log-likelihood of each example's class, `(n,)`, in nats.

    Args:
        outputs: With `logits`, `(n, classes)`.
        labels: Classes, `(n,)`.
    """
    return functional.cross_entropy(outputs.logits, labels, reduction="none")


def _hits(outputs: Any, labels: Tensor) -> Tensor:
    return outputs.logits.argmax(-1) == labels


def _feed_text(inputs: Tensor) -> dict[str, Tensor]:
    """Tokens and their mask lie side by side in `(n, 2, length)`."""
    return {"input_ids": inputs[:, 0], "attention_mask": inputs[:, 1]}


def _feed_images(inputs: Tensor) -> dict[str, Tensor]:
    return {"pixel_values": inputs}


def _feed_as_is(inputs: Tensor) -> Tensor:
    return inputs


def _read_texts(reading: Reading) -> Labelled:
    inputs = _texts(reading, read_lines(reading.reference))
    labels = inputs[:, 0].masked_fill(inputs[:, 1] == 0, IGNORED)
    return Labelled(inputs, labels)


def _read_classified(reading: Reading) -> Labelled:
    lines = read_lines(reading.reference)
    classes = _classes(reading.config)
    labels: list[int] = []
    for line in lines:
        if "label" not in line.values:
            raise DataError(f"{line.where}: has no 'label', only {', '.join(line.values)}")
        labels.append(class_of(line.values["label"], classes, line.where))
    return Labelled(_texts(reading, lines), torch.tensor(labels))


def _read_images(reading: Reading) -> Labelled:
    found, classes = read_images(reading.reference), _classes(reading.config)
    labels = [class_of(name, classes, str(path)) for path, name in found]
    pixels = load_images([path for path, _ in found], _picturing(reading))
    return Labelled(pixels, torch.tensor(labels))


def _tokens(reading: Reading, line: Line) -> Tensor:
    """The tokens of a text or of chat messages, cut at the longest length."""
    tokenizer = reading.tokenizer
    if tokenizer is None:
        raise SettingsError(f"{reading.folder}: has no tokenizer, which texts need")
    if "messages" in line.values:
        tokens = _chat(tokenizer, line)
    else:
        tokens = tokenizer(text_of(line), verbose=False)["input_ids"]
    if len(tokens) < 2:
        raise DataError(f"{line.where}: is {len(tokens)} tokens long, and at least 2 are needed")
    if max(tokens) >= reading.config.get_text_config().vocab_size:
        raise DataError(
            f"{line.where}: has the token {max(tokens)}, beyond the model's vocabulary of "
            f"{reading.config.get_text_config().vocab_size}; is it the right tokenizer?"
        )
    return torch.tensor(tokens[: _longest(reading)])


def _longest(reading: Reading) -> int:
    """As many tokens as are wanted, and as the model has positions for."""
    positions = getattr(reading.config.get_text_config(), "max_position_embeddings", None)
    limits = [reading.max_length, positions, reading.tokenizer.model_max_length]
    return min(limit for limit in limits if isinstance(limit, int) and limit > 0)


def _chat(tokenizer: Any, line: Line) -> list[int]:
    try:
        text = tokenizer.apply_chat_template(line.values["messages"], tokenize=False)
    except Exception as error:  # templates are programs, and fail in every way
        raise DataError(
            f"{line.where}: the tokenizer's chat template fails on 'messages' ({error})"
        ) from error
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _texts(reading: Reading, lines: list[Line]) -> Tensor:
    """Tokens and their mask, shape `(n, 2, length)`; the padding stands on the right."""
    texts = [_tokens(reading, line) for line in lines]
    length = max(map(len, texts))
    rows = torch.zeros(len(texts), 2, length, dtype=torch.int64)
    for row, tokens in zip(rows, texts, strict=True):
        row[0] = reading.config.get_text_config().pad_token_id or 0
        row[0, : len(tokens)] = tokens
        row[1, : len(tokens)] = 1
    return rows


def _classes(config: Any) -> Mapping[str, int]:
    return {str(name): int(number) for name, number in config.label2id.items()}


def _picturing(reading: Reading) -> Picturing:
    """As the image processor of the folder says, at the size of the model."""
    size = reading.config.image_size
    sizes = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    channels = int(getattr(reading.config, "num_channels", 3))
    half = (0.5,) * channels
    path = reading.folder / "preprocessor_config.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    make = partial(Picturing, sizes)
    if not known.get("do_normalize", True):
        return make((0.0,) * channels, (1.0,) * channels)
    return make(known.get("image_mean", half), known.get("image_std", half))
