"""The epochs of a training on classified examples: pass after pass over the data."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler

from symport.distributed import all_reduce_, rank, total, world_size
from symport_recipes.data import Examples, LazyImages, batches, counted
from symport_recipes.training._loop import descend_
from symport_recipes.training._schedule import BASE_LR, scheduled
from symport_recipes.training._settings import TrainSettings


@dataclass(frozen=True)
class Epoch:
    """What happened in one pass over the data.

    Attributes:
        number: Counts from 1.
        steps: Steps taken since the start of training.
        loss: Mean over the examples of the pass, in nats, each seen before its own step.
        lr: Learning rate of its last step.
        elapsed_seconds: Since the start of training.
    """

    number: int
    steps: int
    loss: float
    lr: float
    elapsed_seconds: float


@final
class Run:
    """A training in progress; `passes` continues it.

    Args:
        net: Trained in place.
        settings: Of the training.
        seed: Of everything random.
        compiled: Let `torch.compile` make the kernels.

    Attributes:
        net: The network as it is now.
        optimizer: Its state is that of the last step.
        order: Gives the order of the examples, then crops and flips.
        history: Of the passes that are done.
        scores: Kept here by the caller, of the start and after each pass.
    """

    def __init__(
        self, net: nn.Module, settings: TrainSettings, seed: int, *, compiled: bool = False
    ) -> None:
        self.net = net
        self.optimizer = _optimizer(net, settings)
        self.order = torch.Generator().manual_seed(seed)
        self.history: list[Epoch] = []
        self.scores: list[float] = []
        self._noise = torch.Generator().manual_seed(seed + rank())  # dropout: of its own for each
        self._settings = settings
        self._forward = torch.compile(net) if compiled else net

    def passes(
        self, examples: Examples | LazyImages, after_step: Callable[[int], object]
    ) -> Iterator[Epoch]:
        """Run the remaining passes; `after_step` is called with the number of each step."""
        settings, done = self._settings, len(self.history)
        begun = time.perf_counter() - (self.history[-1].elapsed_seconds if done else 0.0)
        per_pass = math.ceil(len(examples) / settings.batch_size)
        steps = settings.steps or settings.ticks * per_pass
        schedule = self._schedule()
        for number, first in enumerate(range(0, steps, per_pass), start=1):
            noise = int(torch.randint(2**62, (), generator=self._noise))
            if number > done:
                with _isolated(examples.labels.device, noise):
                    last = min(first + per_pass, steps)
                    loss, rate = self._pass(examples, range(first, last), schedule, after_step)
                if settings.epochs:
                    schedule.step()
                self._average_statistics_()
                elapsed = time.perf_counter() - begun
                self.history.append(Epoch(number, last, loss, rate, elapsed))
                yield self.history[-1]

    def _schedule(self) -> LRScheduler:
        settings = self._settings
        done = self.history[-1].steps if self.history and settings.steps else len(self.history)
        return scheduled(
            self.optimizer,
            lr=settings.lr,
            ticks=settings.ticks,
            warmup=settings.warmup_epochs,
            schedule=settings.schedule,
            done=done,
        )

    def _pass(
        self,
        examples: Examples | LazyImages,
        steps: range,
        schedule: LRScheduler,
        after_step: Callable[[int], object],
    ) -> tuple[float, float]:
        """The mean loss of a pass, and its last learning rate."""
        size = self._settings.batch_size
        loss = torch.zeros((), dtype=torch.float64, device=examples.labels.device)
        rate, seen = 0.0, 0
        taken = descend_(
            self.optimizer,
            self._batches(examples),
            self._loss,
            schedule=schedule if self._settings.steps else None,
            change_gradients_=partial(_add_up_gradients_, self.net) if world_size() > 1 else None,
        )
        for number, step in zip(steps, taken, strict=False):
            whole = min(size, len(examples) - seen)
            loss.add_(step.loss, alpha=whole)
            rate, seen = step.lr, seen + whole
            after_step(number + 1)
        return total(float(loss)) / seen, rate

    def _batches(self, examples: Examples | LazyImages) -> Iterator[tuple[Tensor, Tensor, float]]:
        """This process's part of every batch, and its share of the batch."""
        size = self._settings.batch_size
        drawn = batches(
            examples,
            size,
            self.order,
            augment=self._settings.augment,
            dtype=next(self.net.parameters()).dtype,
            place=rank(),
            among=world_size(),
        )
        for first, (inputs, labels) in zip(range(0, len(examples), size), drawn, strict=True):
            whole = min(size, len(examples) - first)
            yield inputs, labels, counted(whole, rank(), world_size()) / whole

    def _loss(self, batch: tuple[Tensor, Tensor, float]) -> Tensor:
        """The mean of a batch, or what this process's part adds to it."""
        inputs, labels, share = batch
        on_gpu = inputs.device.type == "cuda"
        mixed = on_gpu and self._settings.mixed_precision
        if inputs.ndim == 4:  # images: faster on CPUs (by a third, measured) and on GPUs
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=mixed):
            loss = cross_entropy(self._forward(inputs), labels)
        return loss if share == 1 else loss * share

    def _average_statistics_(self) -> None:
        """BatchNorm's running ones, over the processes."""
        if world_size() > 1:
            floats = [b for b in self.net.buffers() if b.is_floating_point()]
            all_reduce_(floats)
            for buffer in floats:
                buffer.div_(world_size())


def _add_up_gradients_(net: nn.Module) -> None:
    """All of them as one vector: a sum over processes costs more for its start than its length."""
    grads = [tensor.grad for tensor in net.parameters() if tensor.grad is not None]
    vector = torch.cat([grad.reshape(-1) for grad in grads])
    all_reduce_([vector])
    for grad, summed in zip(grads, vector.split([g.numel() for g in grads]), strict=True):
        grad.copy_(summed.view(grad.shape))


def _optimizer(net: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Fused: one kernel for all tensors. It halves the cost of a small network's Adam step."""
    tensors = [tensor for tensor in net.parameters() if tensor.requires_grad]
    decay = settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(tensors, BASE_LR, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        tensors, BASE_LR, momentum=settings.momentum, weight_decay=decay, fused=True
    )


@contextmanager
def _isolated(device: torch.device, seed: int) -> Generator[None]:
    """Seed the global generators, which dropout draws from, and put them back afterwards."""
    on_gpu = device.type == "cuda"
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if on_gpu else []))
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True))
        yield
