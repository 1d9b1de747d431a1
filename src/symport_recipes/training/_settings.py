"""Settings of a training: length, learning rate, optimizer."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from symport.errors import SettingsError

Schedule: TypeAlias = Literal["constant", "cosine"]
Optimizer: TypeAlias = Literal["sgd", "adam"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train; the length is given either in epochs or in steps.

    Attributes:
        epochs: Passes over the data. The learning rate changes between passes, as in the paper.
        steps: Batches. The learning rate changes at every step.
        batch_size: Examples in a batch; the last of a pass holds what is left.
        lr: Highest learning rate.
        momentum: Of SGD, without dampening; Adam has its own.
        weight_decay: Times each parameter, added to its gradient.
        schedule: `"constant"`, or `"cosine"` for a fall towards 0 along half a cosine.
        warmup_epochs: Passes over which the rate first rises in equal steps; only with `epochs`.
        optimizer: `"sgd"` or `"adam"` (moments .9 and .999).
        augment: Crop and flip images.
        mixed_precision: Compute in bfloat16 where that is safe; on a GPU only.

    Raises:
        SettingsError: Both or none of `epochs` and `steps` are given, or a value is out of its
            range.
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup_epochs: int = 0
    optimizer: Optimizer = "sgd"
    augment: bool = False
    mixed_precision: bool = True

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise SettingsError(f"epochs={self.epochs} and steps={self.steps}: give one of the two")
        for name, is_allowed, expected in (
            ("epochs", self.epochs is None or self.epochs >= 1, "at least 1"),
            ("steps", self.steps is None or self.steps >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0 and finite"),
            ("schedule", self.schedule in ("constant", "cosine"), "constant or cosine"),
            ("warmup_epochs", 0 <= self.warmup_epochs < (self.epochs or 1), "below epochs"),
            ("optimizer", self.optimizer in ("sgd", "adam"), "sgd or adam"),
        ):
            if not is_allowed:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def ticks(self) -> int:
        """How often the learning rate is set: once an epoch, or once a step."""
        return self.epochs or self.steps or 0
