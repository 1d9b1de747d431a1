"""A data set divided for training, validation and selection, and batches drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import final

import torch
from torch import Generator, Tensor

from symport.data import Labelled
from symport_recipes.data import Examples, LazyImages, load, load_lazy, split

TOO_LARGE = ("imagenet",)  # for memory: decoded batch by batch
DECODED = 10_000  # of the validation images of such a set; 6 GB as floats
CHOOSING = 0.2  # of the validation set; it chooses where later training starts, and reports nothing


@dataclass(frozen=True, eq=False)
class Halves:
    """The official training set, 9:1 (appendix D); the same for all seeds.

    Attributes:
        training: Nine tenths, or a share of them.
        validation: One tenth; of ImageNet's, 10,000 images.
        reporting: Four fifths of the tenth.
        choosing: One fifth of the tenth.
        test: The official test set; of ImageNet's, 10,000 images.
    """

    training: Examples | LazyImages
    validation: Labelled
    reporting: Labelled
    choosing: Labelled
    test: Labelled


@cache
def halves(data: str, share: float = 1.0) -> Halves:
    """A data set, divided."""
    training, validation, test = _divided(data)
    if share < 1:
        places = split(training.labels, (share,), Generator().manual_seed(0))[0]
        training = _part(training, places)
    tenth, official = (Labelled(part.floats(), part.labels) for part in (validation, test))
    parts = tenth, *tenth.split(CHOOSING, seed=0), official
    return Halves(training, *map(_laid_out, parts))


def _divided(data: str) -> tuple[Examples | LazyImages, Examples, Examples]:
    """The training set of a data set, 9:1, and its test set; only the nine tenths may be lazy."""
    whole = load_lazy(data) if data in TOO_LARGE else load(data)
    train, test = whole.train, whole.test
    parts = split(train.labels, (0.9, 0.1), Generator().manual_seed(0))
    if isinstance(train, LazyImages):
        places = torch.arange(len(test))
        return train.part(parts[0]), train.take(_some(parts[1])), test.take(_some(places))
    return train.take(parts[0]), train.take(parts[1]), test.take(torch.arange(len(test)))


def _some(places: Tensor) -> Tensor:
    """At most DECODED of them, always the same."""
    order = torch.randperm(len(places), generator=Generator().manual_seed(0))
    return places[order[:DECODED]]


def _laid_out(examples: Labelled) -> Labelled:
    """Images channels-last, which CPUs evaluate nearly twice as fast."""
    inputs = examples.inputs
    if inputs.ndim != 4:
        return examples
    return Labelled(inputs.contiguous(memory_format=torch.channels_last), examples.labels)


def _part(examples: Examples | LazyImages, places: Tensor) -> Examples | LazyImages:
    return examples.part(places) if isinstance(examples, LazyImages) else examples.take(places)


@final
class Drawn(Sequence[tuple[Tensor, Tensor]]):
    """Batches by the places of their examples, made on demand: all together may be too large.

    Args:
        examples: What they are drawn from.
        places: Of each batch, shape `(batch,)`, int64.
    """

    def __init__(self, examples: Examples | LazyImages, places: Sequence[Tensor]) -> None:
        self._examples = examples
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices: batches are taken one by one
        batch = self._examples.take(self._places[number])
        return batch.floats(), batch.labels
