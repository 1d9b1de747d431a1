"""What a selection is about: a network, a source, a target, and the examples at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from symport.data import Labelled
from symport.errors import DataError, SettingsError, first_line
from symport.matching import LinearTerm, Pair
from symport.methods import Finish, Problem
from symport.model import (
    LossGradient,
    call,
    describe_shapes,
    evaluation,
    state_for,
    to_device,
)
from symport.params import Params
from symport.selection._parameterization import Parameterization
from symport.spec import Permutation, PermutationSpec
from symport.trajectory import LinearTrajectory, Trajectory

Feed: TypeAlias = Callable[[Tensor], Any]
Losses: TypeAlias = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """How inputs enter the network, and how its outputs are evaluated.

    Attributes:
        feed: Turns the inputs of some examples, `(n, ...)`, into what the model takes.
        losses: The loss of each example, in nats for the built-in tasks, `(n,)`, given what the
            model returns and the labels.
        right: Whether each output is correct, `(n,)`, bool; None for a task without accuracy.
    """

    feed: Feed
    losses: Losses
    right: Losses | None = None


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The losses of some parameters on each example.

    Attributes:
        losses: Shape `(n,)`, float64, on the CPU.
        right: Shape `(n,)`, bool, or None.

    Example:
        >>> found = Evaluated(torch.tensor([0.5, 1.5]), torch.tensor([True, False]))
        >>> found.loss, found.accuracy
        (1.0, 0.5)
    """

    losses: Tensor
    right: Tensor | None = None

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float | None:
        """The share of correct outputs, in [0, 1]."""
        return None if self.right is None else float(self.right.double().mean())


@dataclass(frozen=True)
class Terms:
    """What the networks of a problem are called where results are printed.

    Attributes:
        source_start: Where the source's training began.
        source_end: Where it ended.
        training: What is transferred.
        target: Where it is to go.
    """

    source_start: str = "the old base"
    source_end: str = "its fine-tune"
    training: str = "the fine-tune"
    target: str = "the new base"


@dataclass(frozen=True, eq=False)
class SelectionProblem:
    """The networks, and the examples that choose and report.

    Attributes:
        model: Gives the computation; gradients are matched of the parameters that it trains.
        task: How inputs enter it, and its losses.
        source: The trajectory to transfer; in a port from the old base to its fine-tune.
        target_init: The target initialization; in a port the new base.
        spec: The symmetry of the network.
        parameterization: What is kept of a result: all weights, or the factors of an adapter.
            `AdapterFactors` and `MasterWeights` need a linear trajectory.
        training: Examples that match, choose and train.
        held_out: Examples that only report.
        micro_batch: Examples that pass through the model at a time, which bounds the memory.
        also: Further pairs, or the sum of some, that every matching of gradients includes.
        activation_checkpointing: Whether activations are recomputed in the backward pass, which
            takes less memory.
        source_model: Computes the source, where its configuration differs from that of the target;
            None where it is `model` too.
        finish: Applied to all weights before they are evaluated or returned, such as the
            re-estimation of BatchNorm; None where nothing is to be done.
        terms: What the networks are called where results are printed.

    Example:
        With the problem that the example of `select` makes:

        >>> problem.evaluate(problem.target_init, problem.held_out).loss
        1.0
        >>> halfway = problem.place(Permutation.identity(problem.spec), step=1)
        >>> problem.evaluate(problem.weights(halfway), problem.held_out).loss
        0.25
    """

    model: nn.Module
    task: Task
    source: Trajectory
    target_init: Params
    spec: PermutationSpec
    parameterization: Parameterization
    training: Labelled
    held_out: Labelled
    micro_batch: int = 8
    also: Sequence[Pair | LinearTerm] = ()
    activation_checkpointing: bool = False
    source_model: nn.Module | None = None
    finish: Finish | None = None
    terms: Terms = field(default_factory=Terms)

    def place(self, permutation: Permutation, step: int, scale: float = 1.0) -> dict[str, Tensor]:
        """The tensors of a step of the source under a permutation.

        Args:
            permutation: From the source's units to the target's.
            step: How far along the trajectory, from 0 to T.
            scale: Factor on the displacement.
        """
        if isinstance(self.source, LinearTrajectory):  # all steps share one displacement
            return self.parameterization.place(permutation, scale * self.source.fractions[step])
        return Problem(self.source, self.target_init, self.spec).place(permutation, step, scale)

    def weights(self, tensors: Params) -> Params:
        """All weights of the network that follow from some tensors, ready to be evaluated."""
        dense = self.parameterization.dense(tensors)
        return dense if self.finish is None else self.finish(dense)

    def evaluate_source(self, step: int, examples: Labelled) -> Evaluated:
        """The losses of a step of the source on its own network, for each of some examples."""
        own = self if self.source_model is None else replace(self, model=self.source_model)
        return own.evaluate(self.source[step], examples)

    def evaluate(self, params: Params, examples: Labelled) -> Evaluated:
        """The losses of the network on each of some examples, in evaluation mode.

        Raises:
            DataError: The model or the loss fails on the examples.
            SettingsError: The loss does not return one value for each example.
        """
        state = state_for(self.model, params)
        like = next(iter(state.values()))
        pieces = zip(
            examples.inputs.split(self.micro_batch),
            examples.labels.split(self.micro_batch),
            strict=True,
        )
        with torch.no_grad(), evaluation(self.model):
            parts = [self._piece(state, to_device(piece, like)) for piece in pieces]
        losses = torch.cat([part.losses for part in parts])
        rights = [part.right for part in parts if part.right is not None]
        return Evaluated(losses, torch.cat(rights) if rights else None)

    def gradient(
        self, batches: Sequence[tuple[Tensor, Tensor]], *, keep: bool = False
    ) -> LossGradient:
        """The gradient of the mean loss on some batches of examples.

        Args:
            batches: Inputs and labels.
            keep: Whether those of the source are kept, for a method that uses them again.
        """
        return LossGradient(
            self.model,
            self._mean_loss,
            TaskBatches(batches, self.task.feed),
            micro_batch=self.micro_batch,
            activation_checkpointing=self.activation_checkpointing,
            keep=keep,
            source_model=self.source_model,
        )

    def _mean_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        return self.task.losses(outputs, labels).mean()

    def _piece(self, state: Params, piece: tuple[Tensor, Tensor]) -> Evaluated:
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
        return Evaluated(losses.double().cpu(), right)


class TaskBatches(Sequence[tuple[Any, Tensor]]):
    """Batches as the model takes them, made when asked for.

    Args:
        batches: Pairs of inputs and labels.
        feed: Turns inputs into what the model takes, as that of a `Task`.

    Example:
        >>> batches = TaskBatches([(torch.ones(2, 3), torch.zeros(2))], lambda x: {"x": x})
        >>> len(batches), batches[0][0]["x"].shape
        (1, torch.Size([2, 3]))
    """

    def __init__(self, batches: Sequence[tuple[Tensor, Tensor]], feed: Feed) -> None:
        self._batches = batches
        self._feed = feed

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> tuple[Any, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices: batches are taken one by one
        inputs, labels = self._batches[number]
        return self._feed(inputs), labels
