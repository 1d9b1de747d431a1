"""An estimate of how long direct training will go on, from its first few steps."""

from dataclasses import dataclass

from symport.selection import (
    PATIENCE,
    SelectionProblem,
    TrainingRules,
    Trial,
    evaluation_steps,
    fewest_steps,
    folds_of,
    validation_curve,
)
from symport.settings import Rules
from symport.spec import Permutation

SHARE = 16  # a sixteenth of the longest training is tried


@dataclass(frozen=True)
class Outlook:
    """Between which numbers of steps training ends: by start, then learning rate.

    Attributes:
        least: Steps that a curve is evaluated up to if nothing later is better than what was tried.
        most: The same if training helps as long as it may.
        finals: By start the fewest and the most steps that the final training may take.
    """

    least: tuple[int, ...] = ()
    most: tuple[int, ...] = ()
    finals: tuple[tuple[int, int], ...] = ()


def untried(rules: Rules) -> Outlook:
    """The bounds without a trial: training may end at once, or never.

    Example:
        >>> untried(Rules(direct_steps=64, learning_rates=(0.001,)))
        Outlook(least=(2, 2), most=(64, 64), finals=((0, 64), (0, 64)))
    """
    if not rules.folds or not rules.direct_steps:
        return Outlook()
    count = 2 * len(rules.learning_rates)
    least, most = fewest_steps(rules.direct_steps), rules.direct_steps
    return Outlook((least,) * count, (most,) * count, ((0, most),) * 2)


def tried(problem: SelectionProblem, rules: Rules) -> Outlook:
    """Train a few steps on the first fold, as the port will, and see whether they help.

    The port trains from the untouched new base, and from the best transfer, which is not known yet.
    In its place the identity at its best scale is tried, or the untouched base if that is better.

    Args:
        problem: What is to be ported; nothing is matched.
        rules: Of the port.
    """
    if not rules.folds or not rules.direct_steps:
        return Outlook()
    possible = evaluation_steps(rules.direct_steps)
    few = next(step for step in possible if step * SHARE >= rules.direct_steps)
    fold = folds_of(problem.training, rules.folds, rules.seed)[0]
    known, left_out = problem.training.take(fold.train), problem.training.take(fold.held_out)
    identity, training = Permutation.identity(problem.spec), TrainingRules.of(rules)

    def loss(step: int, scale: float) -> float:
        params = problem.weights(problem.place(identity, step, scale))
        return problem.evaluate(params, problem.training).loss

    def curves(step: int, scale: float) -> list[dict[int, float]]:
        trial = Trial("first", lambda: problem.place(identity, step, scale), known, left_out)
        return [
            validation_curve(problem, training, trial, lr, few) for lr in training.learning_rates
        ]

    untouched = curves(0, 1.0)
    if 0 not in untouched[0]:  # no finite loss: an error of the port itself
        return untried(rules)
    last = problem.source.steps
    ends = [*((step, 1.0) for step in range(last + 1)), *((last, s) for s in rules.scales)]
    best = min(ends, key=lambda end: loss(*end))
    found = [untouched, curves(*best) if best[0] else untouched]
    spans = [_span(one, rules) for start in found for one in start]
    return Outlook(
        tuple(least for least, _ in spans),
        tuple(most for _, most in spans),
        tuple(_final(start, rules) for start in found),
    )


def _span(found: dict[int, float], rules: Rules) -> tuple[int, int]:
    """Where a curve ends at the earliest and at the latest, given its beginning."""
    possible = evaluation_steps(rules.direct_steps)
    end = possible[: possible.index(_best(found)) + PATIENCE + 1][-1]
    return (end, end) if end <= max(found) else (end, rules.direct_steps)


def _final(start: list[dict[int, float]], rules: Rules) -> tuple[int, int]:
    """The final training takes the best number of steps of all learning rates."""
    chosen = min(start, key=lambda found: min(found.values()))
    is_over = all(_span(found, rules)[1] <= max(found) for found in start)
    return _best(chosen), _best(chosen) if is_over else rules.direct_steps


def _best(found: dict[int, float]) -> int:
    return min(found, key=lambda step: (found[step], step))
