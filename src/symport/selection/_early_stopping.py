"""How many steps of direct training help, by cross-validation over the examples."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from symport.data import Labelled, ShuffledBatches
from symport.errors import ParamsError
from symport.io import write_text
from symport.memory import release_memory
from symport.model import train_directly_
from symport.params import Params
from symport.selection._problem import SelectionProblem
from symport.settings import Rules

PATIENCE = 2  # evaluations without a new best; the steps double, so a third would cost too much


@dataclass(frozen=True)
class TrainingRules:
    """What direct training may choose from, and its batches.

    Attributes:
        most_steps: At most so many steps.
        batch_size: Examples in a step.
        learning_rates: Of Adam.
        seed: Of the batches.

    Example:
        >>> TrainingRules.of(Rules(direct_steps=16, direct_batch_size=4)).most_steps
        16
    """

    most_steps: int
    batch_size: int
    learning_rates: Sequence[float]
    seed: int

    @staticmethod
    def of(rules: Rules) -> "TrainingRules":
        """The rules of direct training among those of a selection."""
        return TrainingRules(
            rules.direct_steps, rules.direct_batch_size, rules.learning_rates, rules.seed
        )


@dataclass(frozen=True)
class DirectTraining:
    """A number of steps, and the loss that cross-validation found for it.

    Attributes:
        steps: 0 if none helps.
        lr: Learning rate.
        loss: Mean loss of examples that were left out.
        curves: That loss by number of steps, for each learning rate.

    Example:
        >>> DirectTraining(2, lr=0.1, loss=0.5, curves={0.1: {0: 0.9, 1: 0.7, 2: 0.5}}).is_longest
        True
    """

    steps: int
    lr: float
    loss: float
    curves: Mapping[float, Mapping[int, float]]

    @property
    def is_longest(self) -> bool:
        """Whether the most steps that were tried are the best."""
        return 0 < self.steps == max(self.curves[self.lr])


@dataclass(frozen=True, eq=False)
class Trial:
    """One fold: where training starts, what it trains on, and what evaluates it.

    Attributes:
        name: Names its file; unique to the fold and the start.
        start: Makes the tensors that training starts from, new ones each time.
        training: Examples that train.
        validation: Examples that were left out.
    """

    name: str
    start: Callable[[], dict[str, Tensor]]
    training: Labelled
    validation: Labelled


def evaluation_steps(most: int) -> list[int]:
    """The numbers of steps after which the loss is evaluated: 0 and the powers of two.

    Example:
        >>> evaluation_steps(10)
        [0, 1, 2, 4, 8, 10]
    """
    return sorted({0, most, *(2**k for k in range(most.bit_length()) if 2**k <= most)})


def fewest_steps(most: int) -> int:
    """The number of steps after which a curve that never falls ends.

    Example:
        >>> fewest_steps(64)
        2
    """
    return evaluation_steps(most)[: PATIENCE + 1][-1]


def train(
    problem: SelectionProblem,
    start: dict[str, Tensor],
    examples: Labelled,
    training: DirectTraining,
    rules: TrainingRules,
) -> dict[str, Tensor]:
    """Train some tensors, in place, for a chosen number of steps.

    Raises:
        ParamsError: Training diverged.
    """
    return _train(problem, start, examples, rules, (training.lr, training.steps), None)


def choose_training(
    problem: SelectionProblem,
    rules: TrainingRules,
    trials: list[Trial],
    *,
    folder: Path | None,
    advance: Callable[[str], None],
) -> DirectTraining:
    """The number of steps, and the learning rate, of least loss on examples left out.

    Args:
        problem: What is trained.
        rules: At most how many steps, which learning rates, which batches.
        trials: One for each fold.
        folder: Finished curves are kept here; None keeps none.
        advance: Called after each curve.

    Raises:
        ParamsError: Training diverged at its first step.
        FileError: The folder cannot be written.
    """
    total = sum(len(trial.validation) for trial in trials)
    curves: dict[float, dict[int, float]] = {}
    for lr in rules.learning_rates:
        mean = dict.fromkeys(evaluation_steps(rules.most_steps), 0.0)
        for trial in trials:
            path = None if folder is None else folder / f"{trial.name}-{lr:g}.json"
            # A number of steps counts only if every fold reached it, so no fold trains longer.
            most = max(mean, default=0)
            found = _kept(path, validation_curve, problem, rules, trial, lr, most)
            share = len(trial.validation) / total
            reached = {step: loss for step, loss in found.items() if step in mean}
            mean = {step: mean[step] + share * loss for step, loss in reached.items()}
            release_memory()
            advance("")
        curves[lr] = mean
    loss, steps, lr = min(
        (loss, step, lr) for lr, found in curves.items() for step, loss in found.items()
    )
    return DirectTraining(steps, lr, loss, curves)


def validation_curve(
    problem: SelectionProblem, rules: TrainingRules, trial: Trial, lr: float, most: int
) -> dict[int, float]:
    """The validation loss after 0, 1, 2, 4, … steps, with early stopping.

    Args:
        problem: What is trained.
        rules: Which numbers of steps are evaluated, and the batches.
        trial: Where training starts, and its examples.
        lr: Learning rate.
        most: The last number of steps that is wanted.

    Raises:
        ParamsError: Training diverged at its first step.

    Example:
        With the problem that the example of `select` makes:

        >>> from symport.spec import Permutation
        >>> def start():
        ...     return problem.place(Permutation.identity(problem.spec), step=0)
        >>> trial = Trial("first", start, problem.training, problem.held_out)
        >>> rules = TrainingRules(most_steps=4, batch_size=4, learning_rates=(0.1,), seed=0)
        >>> curve = validation_curve(problem, rules, trial, lr=0.1, most=4)
        >>> list(curve), curve[4] < curve[0]
        ([0, 1, 2, 4], True)
    """
    wanted = [step for step in evaluation_steps(rules.most_steps) if step <= most]
    found: dict[int, float] = {}

    def watch(step: int, tensors: Params) -> bool:
        if step in wanted:
            loss = problem.evaluate(problem.weights(tensors), trial.validation).loss
            found[step] = loss if math.isfinite(loss) else math.inf
        values = list(found.values())
        return len(values) - values.index(min(values)) > PATIENCE

    try:
        _train(problem, trial.start(), trial.training, rules, (lr, most), watch)
    except ParamsError:  # diverged: what was found before counts
        if not found:
            raise
    return {step: loss for step, loss in found.items() if math.isfinite(loss)}


def _train(
    problem: SelectionProblem,
    tensors: dict[str, Tensor],
    examples: Labelled,
    rules: TrainingRules,
    pace: tuple[float, int],
    watch: Callable[[int, Params], bool] | None,
) -> dict[str, Tensor]:
    """Train in place: what a start makes is used once."""
    lr, steps = pace
    batches = ShuffledBatches(examples, size=rules.batch_size, count=max(steps, 1), seed=rules.seed)
    gradient, parameterization = problem.gradient(batches), problem.parameterization

    def pulled_back(tensors: Params, step: int) -> Params:
        slope = gradient(parameterization.dense(tensors), step)
        return parameterization.pull_back(tensors, slope)

    train_directly_(pulled_back, tensors, steps=steps, lr=lr, watch=watch)
    return tensors


def _kept(
    path: Path | None, make: Callable[..., dict[int, float]], *arguments: object
) -> dict[int, float]:
    """What a file holds, or what is made now and written there."""
    if path is None:
        return make(*arguments)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(make(*arguments)))
    return {int(step): loss for step, loss in json.loads(path.read_text()).items()}
