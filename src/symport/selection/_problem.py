"""What competes in a port: a network, a fine-tune of its old base, a new base, and examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from symport.data import Labelled
from symport.errors import DataError, SettingsError, first_line
from symport.matching import LinearTerm, Pair
from symport.model import (
    LossGradient,
    call,
    describe_shapes,
    evaluation,
    state_for,
    to_device,
)
from symport.params import Params
from symport.selection._parameterization import Space
from symport.spec import PermutationSpec
from symport.trajectory import LinearTrajectory

Feed: TypeAlias = Callable[[Tensor], Any]
Losses: TypeAlias = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """How examples meet the network.

    Attributes:
        feed: Turns the inputs of some examples, `(n, ...)`, into what the model takes.
        losses: The loss of each example, in nats for the built-in tasks, `(n,)`, given what the
            model returns and the labels.
        right: Whether each example is answered rightly, `(n,)`, bool; None where it makes no sense.
    """

    feed: Feed
    losses: Losses
    right: Losses | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """What some parameters do on each example.

    Attributes:
        losses: Shape `(n,)`, float64, on the CPU.
        right: Shape `(n,)`, bool, or None.
    """

    losses: Tensor
    right: Tensor | None = None

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float | None:
        """The share of right answers, in [0, 1]."""
        return None if self.right is None else float(self.right.double().mean())


@dataclass(frozen=True, eq=False)
class Contest:
    """The problem, and the examples to judge by.

    Attributes:
        model: Gives the computation; what it trains is what gradients are matched of.
        task: How examples meet it.
        source: From the old base to its fine-tune.
        target_init: The new base.
        spec: The symmetry of the network.
        space: What is kept of a result: all weights, or the factors of an adapter.
        working: Examples that match, choose and train.
        reporting: Examples that only report.
        micro_batch: Examples that pass through the model at a time, which bounds the memory.
        also: Pairs, or the sum of some, that count in every matching of gradients.
        recompute: Whether activations are computed again in the backward pass, for less memory.
        source_model: Computes the source, where its configuration says something else than that of
            the new base; None where it is `model` too.
    """

    model: nn.Module
    task: Task
    source: LinearTrajectory
    target_init: Params
    spec: PermutationSpec
    space: Space
    working: Labelled
    reporting: Labelled
    micro_batch: int = 8
    also: Sequence[Pair | LinearTerm] = ()
    recompute: bool = False
    source_model: nn.Module | None = None

    def judge_source(self, step: int, examples: Labelled) -> Judged:
        """What a step of the source does on its own base, on each of some examples."""
        own = self if self.source_model is None else replace(self, model=self.source_model)
        return own.judge(self.source[step], examples)

    def judge(self, params: Params, examples: Labelled) -> Judged:
        """What the network does on each of some examples, in evaluation mode."""
        state = state_for(self.model, params)
        like = next(iter(state.values()))
        pieces = zip(
            examples.inputs.split(self.micro_batch),
            examples.labels.split(self.micro_batch),
            strict=True,
        )
        with torch.no_grad(), evaluation(self.model):
            judged = [self._piece(state, to_device(piece, like)) for piece in pieces]
        losses = torch.cat([piece.losses for piece in judged])
        rights = [piece.right for piece in judged if piece.right is not None]
        return Judged(losses, torch.cat(rights) if rights else None)

    def gradient(
        self, batches: Sequence[tuple[Tensor, Tensor]], *, keep: bool = False
    ) -> LossGradient:
        """The gradient of the mean loss on some batches of examples.

        Args:
            batches: Inputs and labels.
            keep: Whether those of the source are kept, for a method that wants them again.
        """
        return LossGradient(
            self.model,
            self._mean_loss,
            Fed(batches, self.task.feed),
            micro_batch=self.micro_batch,
            recompute=self.recompute,
            keep=keep,
            source_model=self.source_model,
        )

    def _mean_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        return self.task.losses(outputs, labels).mean()

    def _piece(self, state: Params, piece: tuple[Tensor, Tensor]) -> Judged:
        inputs, labels = piece
        outputs = call(self.model, state, self.task.feed(inputs))
        try:
            losses = self.task.losses(outputs, labels)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"the loss failed on outputs {describe_shapes(outputs)} and labels "
                f"{describe_shapes(labels)}: {first_line(error)}"
            ) from error
        if losses.shape != (len(labels),):
            raise SettingsError(
                f"the loss returned {describe_shapes(losses)} for {len(labels)} examples; it must "
                "return one value for each"
            )
        right = None if self.task.right is None else self.task.right(outputs, labels).cpu()
        return Judged(losses.double().cpu(), right)


class Fed(Sequence[tuple[Any, Tensor]]):
    """Batches as the model takes them, made when asked for.

    Args:
        batches: Pairs of inputs and labels.
        feed: As in `Task`.
    """

    def __init__(self, batches: Sequence[tuple[Tensor, Tensor]], feed: Feed) -> None:
        self._batches = batches
        self._feed = feed

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> tuple[Any, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices: batches are taken one by one
        inputs, labels = self._batches[number]
        return self._feed(inputs), labels
