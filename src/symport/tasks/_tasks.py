"""What a fine-tune was made for, and how examples of it are read and judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from symport.data import Labelled
from symport.errors import DataError, SettingsError
from symport.params import widened
from symport.references import load_examples, load_function
from symport.selection import Feed, Task
from symport.tasks._images import find_images, load_images
from symport.tasks._lines import class_of, read_lines
from symport.tasks._processors import class_numbers, image_scaling
from symport.tasks._texts import IGNORED, Texts, read_texts

SUFFIXES = {
    "causal-lm": ("ForCausalLM", "LMHeadModel"),
    "classification": ("ForSequenceClassification",),
    "image": ("ForImageClassification",),
}


@dataclass(frozen=True)
class ExampleSource:
    """What is needed to read examples.

    Attributes:
        reference: The file or folder.
        config: The fine-tune's configuration. A classifier of texts without a token for padding
            gets one there when its examples are read.
        tokenizer: Of the fine-tune; None if it has none.
        folder: The fine-tune's folder.
        max_length: Tokens of a text.
        labels: Names of the classes in their order, or () for those of the configuration.
        notes: What is to be said of the examples is added here when they are read.
    """

    reference: str
    config: Any
    tokenizer: Any
    folder: Path
    max_length: int
    labels: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, eq=False)
class NamedExamples:
    """Examples, and where each of them stands.

    Attributes:
        examples: In the order of their file.
        names: File and line, for messages.
        classes: Names of the classes in their order; () where there are none.
    """

    examples: Labelled
    names: Sequence[str]
    classes: Sequence[str] = ()


def resolve_task(name: str, architecture: str) -> str:
    """The task itself, or for `"auto"` what an architecture is for.

    Raises:
        SettingsError: The architecture says nothing that is known here.

    Example:
        >>> resolve_task("auto", "LlamaForCausalLM")
        'causal-lm'
    """
    if name != "auto":
        return name
    for task, suffixes in SUFFIXES.items():
        if architecture.endswith(suffixes):
            return task
    raise SettingsError(
        f"{architecture} is for none of {', '.join(SUFFIXES)}; give the examples as arrays and a "
        "loss: --set task=arrays --set loss=module:function"
    )


def make_task(name: str, loss: str | None) -> Task:
    """How a task feeds and judges, with another loss if one is named.

    Raises:
        SettingsError: There is no such function, or arrays come without a loss.
    """
    if name == "arrays" and loss is None:
        raise SettingsError("the task 'arrays' needs a loss: --set loss=module:function")
    if loss is not None:
        return Task(feed_of(name), load_function(loss))
    if name == "causal-lm":
        return Task(feed_of(name), causal_losses)
    return Task(feed_of(name), class_losses, _hits)


def feed_of(name: str) -> Feed:
    """What turns the inputs of some examples into what a model of the task takes."""
    feeds: dict[str, Feed] = {
        "causal-lm": _feed_text,
        "classification": _feed_text,
        "image": _feed_images,
        "arrays": _feed_as_is,
    }
    return feeds[name]


def read_examples(name: str, reading: ExampleSource) -> NamedExamples:
    """All examples of a task, in the order of their file.

    Raises:
        FileError: The file or folder cannot be read.
        DataError: An example is not what the task needs; the message says where.
        SettingsError: There is no tokenizer, or the configuration has no classes.
    """
    readers: dict[str, Callable[[ExampleSource], NamedExamples]] = {
        "causal-lm": _read_texts,
        "classification": _read_classified,
        "image": _read_images,
        "arrays": _read_arrays,
    }
    return readers[name](reading)


def read_inputs(name: str, reading: ExampleSource) -> Tensor:
    """The inputs alone, where no labels are needed.

    Raises:
        FileError: As `read_examples`.
        DataError: As `read_examples`.
        SettingsError: As `read_examples`.
    """
    if name in ("causal-lm", "classification"):
        return _texts(reading, answers=False, pads=name == "classification").rows
    if name == "image":
        found = find_images(reading.reference)
        _note_others(reading, found.others)
        paths = [path for path, _ in found.images]
        return load_images(paths, image_scaling(reading.folder, reading.config))
    return load_examples(reading.reference).inputs


def causal_losses(outputs: Any, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of each text's labelled tokens, `(n,)`, in nats.

    Each token is told by those before it, so that the first has no likelihood.

    Args:
        outputs: With `logits`, `(n, length, vocabulary)`.
        labels: Tokens, `(n, length)`, -100 where there are none.
    """
    wanted = labels[:, 1:]
    logits = widened(outputs.logits[:, :-1].transpose(1, 2))
    values = functional.cross_entropy(logits, wanted, reduction="none", ignore_index=IGNORED)
    return values.sum(1) / (wanted != IGNORED).sum(1)


def class_losses(outputs: Any, labels: Tensor) -> Tensor:
    """The negative log-likelihood of each example's class, `(n,)`, in nats.

    Args:
        outputs: With `logits`, `(n, classes)`.
        labels: Classes, `(n,)`.
    """
    return functional.cross_entropy(widened(outputs.logits), labels, reduction="none")


def _hits(outputs: Any, labels: Tensor) -> Tensor:
    return outputs.logits.argmax(-1) == labels


def _feed_text(inputs: Tensor) -> dict[str, Tensor]:
    """Tokens and their mask lie side by side in `(n, 2, length)`."""
    return {"input_ids": inputs[:, 0], "attention_mask": inputs[:, 1]}


def _feed_images(inputs: Tensor) -> dict[str, Tensor]:
    return {"pixel_values": inputs}


def _feed_as_is(inputs: Tensor) -> Tensor:
    return inputs


def _read_texts(reading: ExampleSource) -> NamedExamples:
    texts = _texts(reading, answers=True, pads=False)
    labels = texts.rows[:, 0].masked_fill(~texts.counted, IGNORED)
    return NamedExamples(Labelled(texts.rows, labels), texts.names)


def _read_classified(reading: ExampleSource) -> NamedExamples:
    classes = _classes(reading)
    labels: list[int] = []
    for line in read_lines(reading.reference):
        if line.values.get("label") is None:
            raise DataError(
                f"{line.where}: has no 'label', only {', '.join(list(line.values)[:9])}"
            )
        labels.append(class_of(line.values["label"], classes, line.where))
    texts = _texts(reading, answers=False, pads=True)
    return NamedExamples(Labelled(texts.rows, torch.tensor(labels)), texts.names, list(classes))


def _read_images(reading: ExampleSource) -> NamedExamples:
    found, classes = find_images(reading.reference), _classes(reading)
    _note_others(reading, found.others)
    labels = [class_of(name, classes, str(path)) for path, name in found.images]
    paths = [path for path, _ in found.images]
    pixels = load_images(paths, image_scaling(reading.folder, reading.config))
    return NamedExamples(
        Labelled(pixels, torch.tensor(labels)), list(map(str, paths)), list(classes)
    )


def _read_arrays(reading: ExampleSource) -> NamedExamples:
    found = load_examples(reading.reference)
    return NamedExamples(found, [f"{reading.reference}, example {k}" for k in range(len(found))])


def _texts(reading: ExampleSource, *, answers: bool, pads: bool) -> Texts:
    """Tokens of all texts; if `pads`, the configuration gets a token for padding if it has none."""
    if reading.tokenizer is None:
        raise SettingsError(
            f"{reading.folder}: has no tokenizer, which texts need; put the files of the base's "
            "tokenizer there"
        )
    texts = read_texts(
        read_lines(reading.reference),
        reading.tokenizer,
        reading.config,
        max_length=reading.max_length,
        answers=answers,
        pads=pads,
    )
    reading.notes.extend(texts.notes)
    if pads and texts.pad is not None:
        for config in (reading.config, reading.config.get_text_config()):
            config.pad_token_id = texts.pad
    return texts


def _classes(reading: ExampleSource) -> Mapping[str, int]:
    """Names and numbers of the classes, in the order of their numbers."""
    known = class_numbers(reading.folder, reading.config)
    if not reading.labels:
        return known
    if len(reading.labels) != len(known) or len(set(reading.labels)) < len(known):
        raise SettingsError(
            f"labels: {len(set(reading.labels))} names ({', '.join(reading.labels)}), but the "
            f"fine-tune has {len(known)} classes; give each one's name, in their order"
        )
    return {name: number for number, name in enumerate(reading.labels)}


def _note_others(reading: ExampleSource, others: Sequence[Path]) -> None:
    if others:
        more = f" and {len(others) - 3} others" if len(others) > 3 else ""
        shown = ", ".join(str(path.relative_to(reading.reference)) for path in others[:3])
        reading.notes.append(f"No images, by their endings, and passed over: {shown}{more}.")
