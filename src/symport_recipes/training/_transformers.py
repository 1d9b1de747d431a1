"""Train a transformer by steps, on examples that are drawn with replacement."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.optim import AdamW

from symport.data import Labelled
from symport.selection import Task
from symport_recipes.training._loop import descend_
from symport_recipes.training._schedule import BASE_LR, scheduled

Draw: TypeAlias = Callable[[int, Generator], Labelled]
Watch: TypeAlias = Callable[[int, float], object] | None

CLIP = 1.0  # of the gradient's norm, as is usual for transformers


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long and how fast to train: AdamW, a linear warm-up, then half a cosine.

    Attributes:
        steps: Number of batches.
        lr: Highest learning rate.
        batch_size: Examples in a batch.
        warmup: Steps until the highest learning rate.
        weight_decay: As AdamW has it.
    """

    steps: int
    lr: float
    batch_size: int = 16
    warmup: int = 50
    weight_decay: float = 0.01


def train_(
    model: nn.Module,
    task: Task,
    draw: Draw,
    pace: Pace,
    *,
    seed: int,
    progress: Watch = None,
) -> None:
    """Train what the model says is to be trained, in place.

    Args:
        model: Left in evaluation mode.
        task: How examples meet it.
        draw: Draws so many examples.
        pace: How long and how fast.
        seed: Of the examples.
        progress: Called after each step with its number and loss.
    """
    tensors = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer = AdamW(tensors, BASE_LR, weight_decay=pace.weight_decay, fused=True)
    schedule = scheduled(
        optimizer, lr=pace.lr, ticks=pace.steps, warmup=pace.warmup, schedule="cosine"
    )
    generator = Generator().manual_seed(seed)

    def loss(examples: Labelled) -> Tensor:
        return task.losses(model(**task.feed(examples.inputs)), examples.labels).mean()

    model.train()
    steps = descend_(
        optimizer,
        (draw(pace.batch_size, generator) for _ in range(pace.steps)),
        loss,
        schedule=schedule,
        change_gradients_=partial(nn.utils.clip_grad_norm_, tensors, CLIP),
    )
    for number, step in enumerate(steps, start=1):
        if progress is not None:
            progress(number, float(step.loss))
    model.eval()


def drawn_from(examples: Labelled) -> Draw:
    """Draw from examples in memory, with replacement."""
    return lambda count, generator: examples.take(
        torch.randint(len(examples), (count,), generator=generator)
    )
