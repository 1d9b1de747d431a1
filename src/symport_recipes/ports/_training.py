"""Train a transformer on examples, and keep what was trained as a model folder."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Generator, nn

from symport.data import Labelled
from symport.errors import FileError
from symport.io import write_text
from symport.selection import Task

Draw: TypeAlias = Callable[[int, Generator], Labelled]
Watch: TypeAlias = Callable[[int, float], object] | None

NOTE = "trained.json"
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


def rate(pace: Pace, step: int) -> float:
    """The learning rate of a step, counted from 0.

    Example:
        >>> [rate(Pace(steps=4, lr=1.0, warmup=2), step) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    if step < pace.warmup:
        return pace.lr * (step + 1) / pace.warmup
    share = (step - pace.warmup) / (pace.steps - pace.warmup)
    return pace.lr * 0.5 * (1 + math.cos(math.pi * share))


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
    optimizer = torch.optim.AdamW(tensors, weight_decay=pace.weight_decay, fused=True)
    generator = Generator().manual_seed(seed)
    model.train()
    for step in range(pace.steps):
        optimizer.param_groups[0]["lr"] = rate(pace, step)
        examples = draw(pace.batch_size, generator)
        loss = task.losses(model(**task.feed(examples.inputs)), examples.labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tensors, CLIP)
        optimizer.step()
        if progress is not None:
            progress(step + 1, float(loss.detach()))
    model.eval()


def drawn_from(examples: Labelled) -> Draw:
    """Draw from examples in memory, with replacement."""
    return lambda count, generator: examples.take(
        torch.randint(len(examples), (count,), generator=generator)
    )


def kept(folder: Path, recipe: Mapping[str, Any], make: Callable[[], Any]) -> Path:
    """A model folder, made by `make` unless one of this recipe is there.

    Args:
        folder: Where; what was made by another recipe is replaced.
        recipe: Everything that decides the result.
        make: Trains; what it returns has `save_pretrained`, one or several of them.

    Raises:
        FileError: There is a folder of that name that no recipe made.
    """
    text = json.dumps(recipe, sort_keys=True, default=asdict)
    note = folder / NOTE
    if note.exists() and note.read_text() == text:
        return folder
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    for place in (folder, unfinished):
        if place.exists() and not (place / NOTE).is_file():
            raise FileError(
                f"{place}: exists, and no recipe made it; move it away, or choose another --cache"
            )
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_text(unfinished / NOTE, text)
    for part in make():
        part.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return folder


def made_by(start: Path | int) -> Any:
    """The recipe of a folder that was kept, or a seed as it is."""
    return start if isinstance(start, int) else json.loads((start / NOTE).read_text())
