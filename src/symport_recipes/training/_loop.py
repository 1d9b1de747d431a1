"""The loop of every training: for each batch a loss, its gradients, and a step of the optimizer."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Batch = TypeVar("Batch")


@dataclass(frozen=True, eq=False)
class Step:
    """A step that was taken.

    Attributes:
        loss: Before it, shape `()`.
        lr: Its learning rate.
    """

    loss: Tensor
    lr: float


def descend_(
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    *,
    schedule: LRScheduler | None = None,
    change_gradients_: Callable[[], object] | None = None,
) -> Iterator[Step]:
    """Take one step for each batch, as the iterator is read; parameters change in place.

    Args:
        optimizer: Of the parameters.
        batches: Drawn as they are needed.
        loss: Of a batch, shape `()`.
        schedule: Moved on after each step; None if the rate changes elsewhere.
        change_gradients_: Called between the gradients and the step, to clip or sum them.

    Yields:
        Each step that was taken.
    """
    for batch in batches:
        lr = optimizer.param_groups[0]["lr"]
        optimizer.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()
        if change_gradients_ is not None:
            change_gradients_()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        yield Step(value.detach(), lr)
