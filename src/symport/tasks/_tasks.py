"""The task of a fine-tune: how its examples are read, fed to a model and scored."""

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
    """A file of examples, with what is needed to read it.

    Attributes:
        reference: The file or folder.
        config: The fine-tune's configuration. For a text classifier without a padding token,
            reading the examples sets one.
        tokenizer: The fine-tune's tokenizer; None if it has none.
        folder: The fine-tune's folder.
        max_length: Maximum number of tokens of a text.
        labels: Names of the classes in their order, or () for those of the configuration.
        notes: Sentences on the examples, which reading them appends.
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
    """Examples with their locations.

    Attributes:
        examples: In the order of their file.
        names: File and line of each, for messages.
        classes: Names of the classes in their order; () if there are none.
    """

    examples: Labelled
    names: Sequence[str]
    classes: Sequence[str] = ()


def resolve_task(name: str, architecture: str) -> str:
    """The given task, or for `"auto"` the task of an architecture.

    Raises:
        SettingsError: The architecture has none of the known tasks.

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
    """The feed, loss and metric of a task.

    Args:
        name: The task.
        loss: `module:function` of another loss; None for that of the task.

    Raises:
        SettingsError: There is no such function, or the task is arrays and has no loss.

    Example:
        >>> make_task("classification", None).losses is class_losses
        True
    """
    if name == "arrays" and loss is None:
        raise SettingsError("the task 'arrays' needs a loss: --set loss=module:function")
    if loss is not None:
        return Task(feed_of(name), load_function(loss))
    if name == "causal-lm":
        return Task(feed_of(name), causal_losses)
    return Task(feed_of(name), class_losses, _hits)


def feed_of(name: str) -> Feed:
    """The function from the inputs of some examples to the inputs of a model of the task.

    Example:
        >>> feed_of("image")(torch.zeros(1, 3, 8, 8)).keys()
        dict_keys(['pixel_values'])
    """
    feeds: dict[str, Feed] = {
        "causal-lm": _feed_text,
        "classification": _feed_text,
        "image": _feed_images,
        "arrays": _feed_as_is,
    }
    return feeds[name]


def read_examples(name: str, reading: ExampleSource) -> NamedExamples:
    """All examples of a task, in the order of their file.

    Args:
        name: The task.
        reading: Where the examples are.

    Raises:
        FileError: The file or folder cannot be read.
        DataError: An example does not fit the task; the message names its location.
        SettingsError: There is no tokenizer, or the configuration has no classes.

    Example:
        >>> from symport.io import save_tensors
        >>> path = folder / "data.safetensors"
        >>> save_tensors(path, {"inputs": torch.zeros(2, 3), "labels": torch.tensor([0, 1])})
        >>> source = ExampleSource(str(path), None, None, folder, max_length=0)
        >>> read_examples("arrays", source).examples.labels
        tensor([0, 1])
    """
    readers: dict[str, Callable[[ExampleSource], NamedExamples]] = {
        "causal-lm": _read_texts,
        "classification": _read_classified,
        "image": _read_images,
        "arrays": _read_arrays,
    }
    return readers[name](reading)


def read_inputs(name: str, reading: ExampleSource) -> Tensor:
    """The inputs of all examples, which need no labels.

    Args:
        name: The task.
        reading: Where the examples are.

    Raises:
        FileError: The file or folder cannot be read.
        DataError: An example does not fit the task; the message names its location.
        SettingsError: There is no tokenizer.

    Example:
        >>> from symport.io import save_tensors
        >>> path = folder / "data.safetensors"
        >>> save_tensors(path, {"inputs": torch.zeros(2, 3), "labels": torch.tensor([0, 1])})
        >>> source = ExampleSource(str(path), None, None, folder, max_length=0)
        >>> read_inputs("arrays", source).shape
        torch.Size([2, 3])
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

    Each token is predicted from those before it, so the first one does not count.

    Args:
        outputs: A record with `logits`, `(n, length, vocabulary)`.
        labels: Tokens, `(n, length)`, or -100 for a token without a label.
    """
    wanted = labels[:, 1:]
    logits = widened(outputs.logits[:, :-1].transpose(1, 2))
    values = functional.cross_entropy(logits, wanted, reduction="none", ignore_index=IGNORED)
    return values.sum(1) / (wanted != IGNORED).sum(1)


def class_losses(outputs: Any, labels: Tensor) -> Tensor:
    """The negative log-likelihood of each example's class, `(n,)`, in nats.

    Args:
        outputs: A record with `logits`, `(n, classes)`.
        labels: Classes, `(n,)`.

    Example:
        >>> from types import SimpleNamespace
        >>> outputs = SimpleNamespace(logits=torch.zeros(2, 4))
        >>> class_losses(outputs, torch.tensor([0, 3]))  # log 4
        tensor([1.3863, 1.3863])
    """
    return functional.cross_entropy(widened(outputs.logits), labels, reduction="none")


def _hits(outputs: Any, labels: Tensor) -> Tensor:
    return outputs.logits.argmax(-1) == labels


def _feed_text(inputs: Tensor) -> dict[str, Tensor]:
    """Split `(n, 2, length)` into tokens and their mask."""
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
    """Tokens of all texts; if `pads`, a padding token is set in a configuration without one."""
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
    """The number of each class by name, in order."""
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
        names = ", ".join(str(path.relative_to(reading.reference)) for path in others[:3])
        reading.notes.append(f"Ignored, as their endings are not those of images: {names}{more}.")
