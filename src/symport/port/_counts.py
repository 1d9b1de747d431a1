"""How often a selection evaluates the network: a lower bound of the cost of a port.

Everything else (placing, matching, writing) comes on top of these evaluations. What depends on the
examples, such as when training stops helping, is given as a `Course`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from symport.selection import evaluation_steps
from symport.settings import Rules

CANDIDATES = 5  # untouched, identity, transfer, direct, then direct


@dataclass(frozen=True)
class Course:
    """What depends on the examples in a selection.

    Attributes:
        step: The step whose permutation is taken in the end.
        lasts: For each curve of direct training the last number of steps that was evaluated: by
            start, learning rate and fold.
        finals: Steps of the trainings on all training examples.
    """

    step: int
    lasts: Sequence[int]
    finals: Sequence[int]

    @staticmethod
    def with_curves(rules: Rules, lasts: Sequence[int], finals: Sequence[int]) -> "Course":
        """All steps of the trajectory, and curves that end at the same step in all folds."""
        return Course(rules.steps, [last for last in lasts for _ in range(rules.folds)], finals)


@dataclass(frozen=True)
class Counts:
    """How many examples pass through the network.

    Attributes:
        gradients: Forward and backward.
        forwards: Forward only.
        matched: Pairs of gradients that are matched.
        trained: Steps of the optimizer.
        placed: Networks that are computed: θ₂⁰ + π(θ₁ᵗ − θ₁⁰).
    """

    gradients: int
    forwards: int
    matched: int
    trained: int
    placed: int


def counts(rules: Rules, training: int, held_out: int, course: Course, *, fgmt: bool) -> Counts:
    """The evaluations of `select`.

    Args:
        rules: Its rules.
        training: Examples that match, choose and train.
        held_out: Examples that only report.
        course: What depends on the examples.
        fgmt: Whether gradients are matched, step by step; else the permutation is given.
    """
    folds = min(rules.folds, training)
    left = [len(range(k, training, folds)) for k in range(folds)]
    known = [training - count for count in left]
    per_curve = [k for _ in range(2 * len(rules.learning_rates)) for k in range(folds)]
    trained = sum(course.lasts) + sum(course.finals)
    gradients = forwards = matched = 0
    if fgmt:
        gradients = sum(_along(rules, count, rules.steps) for count in known)
        gradients += _along(rules, training, course.step)
        matched = rules.steps * folds + course.step
    forwards = 1 + held_out * (2 + (CANDIDATES if course.finals else CANDIDATES - 2))
    placed = len(course.finals) + 3
    if folds:
        scored = 1 + 2 * rules.steps + len(rules.scales)
        forwards += scored * training
        forwards += len(rules.scales) * training
        placed += scored * folds + len(rules.scales) + matched
    for last, fold in zip(course.lasts, per_curve, strict=False):
        gradients += last * min(rules.direct_batch_size, known[fold])
        forwards += (
            len([step for step in evaluation_steps(rules.direct_steps) if step <= last])
            * left[fold]
        )
    gradients += sum(course.finals) * min(rules.direct_batch_size, training)
    return Counts(gradients, forwards, matched, trained, placed + len(course.lasts))


def _along(rules: Rules, count: int, steps: int) -> int:
    """Examples in the gradients of source and target along a trajectory, batch after batch."""
    pieces = -(-count // rules.batch_size)
    sizes = [count // pieces + (k < count % pieces) for k in range(pieces)]
    return 2 * sum(sizes[step % pieces] for step in range(steps))
