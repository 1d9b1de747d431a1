"""How many steps of direct training help, by cross-validation over the examples."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from symport.data import Labelled, ShuffledBatches
from symport.errors import ParamsError
from symport.io import write_text
from symport.memory import release_memory
from symport.model import train_directly_
from symport.params import Params
from symport.selection._problem import Contest
from symport.settings import Rules

PATIENCE = 2  # marks without a new best; the marks double, so a third would be far beyond


@dataclass(frozen=True)
class Steps:
    """A number of steps, and what cross-validation thinks of it.

    Attributes:
        count: 0 if none helps.
        lr: Learning rate.
        loss: Mean loss of examples that were left out.
        curves: That loss by number of steps, for each learning rate.
    """

    count: int
    lr: float
    loss: float
    curves: Mapping[float, Mapping[int, float]]


@dataclass(frozen=True, eq=False)
class Trial:
    """One fold: where training starts, what it sees, and what it is judged on.

    Attributes:
        name: Tells the fold and the start from all others.
        start: Makes the tensors that training starts from, new ones each time.
        known: Examples that train.
        left_out: Examples that judge.
    """

    name: str
    start: Callable[[], dict[str, Tensor]]
    known: Labelled
    left_out: Labelled


def marks(most: int) -> list[int]:
    """The numbers of steps that are judged: 0 and the powers of two.

    Example:
        >>> marks(10)
        [0, 1, 2, 4, 8, 10]
    """
    return sorted({0, most, *(2**k for k in range(most.bit_length()) if 2**k <= most)})


def fewest_steps(rules: Rules) -> int:
    """After how many steps a curve ends that never falls."""
    return marks(rules.direct_steps)[: PATIENCE + 1][-1]


def train(
    contest: Contest, rules: Rules, start: dict[str, Tensor], examples: Labelled, steps: Steps
) -> dict[str, Tensor]:
    """Train some tensors, in place, for a chosen number of steps."""
    return _train(contest, rules, start, examples, (steps.lr, steps.count), None)


def choose_steps(
    contest: Contest,
    rules: Rules,
    trials: list[Trial],
    *,
    folder: Path | None,
    advance: Callable[[str], None],
) -> Steps:
    """The number of steps, and the learning rate, of least loss on examples left out.

    Args:
        contest: The problem.
        rules: At most how many steps, which learning rates, which batches.
        trials: One for each fold.
        folder: Curves that are done are kept here, if it is given.
        advance: Called after each curve.
    """
    total = sum(len(trial.left_out) for trial in trials)
    curves: dict[float, dict[int, float]] = {}
    for lr in rules.learning_rates:
        mean = dict.fromkeys(marks(rules.direct_steps), 0.0)
        for trial in trials:
            path = None if folder is None else folder / f"{trial.name}-{lr:g}.json"
            # A mark counts only if every fold has reached it, so no fold goes on beyond the others.
            found = _kept(path, curve, contest, rules, trial, lr, max(mean, default=0))
            share = len(trial.left_out) / total
            reached = {mark: loss for mark, loss in found.items() if mark in mean}
            mean = {mark: mean[mark] + share * loss for mark, loss in reached.items()}
            release_memory()
            advance("")
        curves[lr] = mean
    loss, count, lr = min(
        (v, mark, lr) for lr, found in curves.items() for mark, v in found.items()
    )
    return Steps(count, lr, loss, curves)


def curve(contest: Contest, rules: Rules, trial: Trial, lr: float, most: int) -> dict[int, float]:
    """The loss of what was left out after so many steps, until it has long stopped falling."""
    wanted = [mark for mark in marks(rules.direct_steps) if mark <= most]
    found: dict[int, float] = {}

    def watch(step: int, held: Params) -> bool:
        if step in wanted:
            loss = contest.judge(contest.space.dense(held), trial.left_out).loss
            found[step] = loss if math.isfinite(loss) else math.inf
        values = list(found.values())
        return len(values) - values.index(min(values)) > PATIENCE

    try:
        _train(contest, rules, trial.start(), trial.known, (lr, most), watch)
    except ParamsError:  # diverged: what was found before stands
        if not found:
            raise
    return {step: loss for step, loss in found.items() if math.isfinite(loss)}


def _train(
    contest: Contest,
    rules: Rules,
    held: dict[str, Tensor],
    examples: Labelled,
    pace: tuple[float, int],
    watch: Callable[[int, Params], bool] | None,
) -> dict[str, Tensor]:
    """Train in place: what a start makes is used once."""
    lr, count = pace
    batches = ShuffledBatches(
        examples, size=rules.direct_batch_size, count=max(count, 1), seed=rules.seed
    )
    gradient = contest.gradient(batches)

    def pulled(held: Params, step: int) -> Params:
        return contest.space.pull(held, gradient(contest.space.dense(held), step))

    train_directly_(pulled, held, steps=count, lr=lr, watch=watch)
    return held


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
