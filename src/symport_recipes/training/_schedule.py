"""The learning rate of every training: a linear warm-up, then constant or half a cosine."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from symport_recipes.training._settings import Schedule

BASE_LR = 1.0  # of the optimizer: LambdaLR multiplies by it, so rates are those of the formula


def scheduled(
    optimizer: Optimizer,
    *,
    lr: float,
    ticks: int,
    warmup: int = 0,
    schedule: Schedule = "constant",
    done: int = 0,
) -> LambdaLR:
    """Let torch's scheduler set the learning rate of an optimizer; `step` moves it on by a tick.

    torch's own cosine and warm-up compute each rate from the one before, which rounds otherwise
    than the formula, so the formula is given to `LambdaLR`.

    Args:
        optimizer: Made with the learning rate `BASE_LR`.
        lr: Highest learning rate.
        ticks: How often the rate is set: epochs, or steps.
        warmup: Ticks over which the rate first rises in equal steps.
        schedule: `"constant"`, or `"cosine"` for a fall towards 0 along half a cosine.
        done: Ticks that are over, where a training is resumed.
    """
    for group in optimizer.param_groups:
        group["initial_lr"] = BASE_LR
    rate = partial(learning_rate, lr=lr, ticks=ticks, warmup=warmup, schedule=schedule)
    return LambdaLR(optimizer, rate, last_epoch=done - 1)


def learning_rate(
    tick: int, *, lr: float, ticks: int, warmup: int = 0, schedule: Schedule = "constant"
) -> float:
    """The learning rate at a tick.

    With W ticks of warm-up out of T, at tick t = 0 … T−1:

        lr · (t+1) / W                                  for t < W
        lr · ½ (1 + cos(π (t−W) / (T−W)))               afterwards, if the schedule is a cosine

    Example:
        >>> [round(learning_rate(t, lr=1.0, ticks=4, schedule="cosine"), 3) for t in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    if tick < warmup:
        return lr * (tick + 1) / warmup
    if schedule == "constant":
        return lr
    if tick >= ticks:  # the scheduler asks once more after the last
        return 0.0
    share = (tick - warmup) / (ticks - warmup)
    return lr * 0.5 * (1 + math.cos(math.pi * share))
