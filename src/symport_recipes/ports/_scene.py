"""The inputs of a porting experiment: a fine-tune, new bases, and examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from symport.data import Labelled
from symport.port import TaskName


@dataclass(frozen=True, eq=False)
class Scene:
    """Networks as model folders, and examples of the fine-tune's task.

    Attributes:
        task: As `symport port` calls it.
        old: The base that was fine-tuned.
        tuned: Its fine-tune, whole or a PEFT adapter.
        targets: New bases, by their relation to the old one.
        pool: Examples to draw from, on which the fine-tune is not overconfident.
        reporting: Examples that no network was trained on.
    """

    task: TaskName
    old: Path
    tuned: Path
    targets: Mapping[str, Path]
    pool: Labelled
    reporting: Labelled


SPARED = 4  # one example in so many is kept from the fine-tune


def learned(count: int) -> Tensor:
    """Places, among so many examples, of those that a fine-tune is trained on.

    The others, `spared`, are used for porting: the losses of training examples are too low, which
    would distort the selection of step and scale.

    Example:
        >>> learned(8), spared(8)
        (tensor([0, 1, 2, 4, 5, 6]), tensor([3, 7]))
    """
    places = torch.arange(count)
    return places[places % SPARED != SPARED - 1]


def spared(count: int) -> Tensor:
    """Places of every fourth example, which no fine-tune is trained on."""
    return torch.arange(SPARED - 1, count, SPARED)
