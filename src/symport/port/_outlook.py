"""How long direct training will go on, as far as its first few steps tell."""

from dataclasses import dataclass

from symport.selection import PATIENCE, Contest, Trial, curve, fewest_steps, folds_of, marks
from symport.settings import Rules
from symport.spec import Permutation

SHARE = 16  # of the longest training one step in so many is tried


@dataclass(frozen=True)
class Outlook:
    """Between which numbers of steps training ends: by start, then learning rate.

    Attributes:
        least: Steps that a curve is judged up to if nothing later is better than what was tried.
        most: The same if training helps as long as it may.
        finals: By start the fewest and the most steps that the final training may take.
    """

    least: tuple[int, ...] = ()
    most: tuple[int, ...] = ()
    finals: tuple[tuple[int, int], ...] = ()


def untried(rules: Rules) -> Outlook:
    """All that is known beforehand: training may end at once, or never.

    Example:
        >>> untried(Rules(direct_steps=64, learning_rates=(0.001,)))
        Outlook(least=(2, 2), most=(64, 64), finals=((0, 64), (0, 64)))
    """
    if not rules.folds or not rules.direct_steps:
        return Outlook()
    count = 2 * len(rules.learning_rates)
    least, most = fewest_steps(rules), rules.direct_steps
    return Outlook((least,) * count, (most,) * count, ((0, most),) * 2)


def tried(contest: Contest, rules: Rules) -> Outlook:
    """Train a few steps on the first fold, as the port will, and see whether they help.

    The port trains from the untouched new base, and from the best transfer. That one is not known
    yet: the identity at its best length stands for it, if it is better than the untouched base, and
    else that base itself.

    Args:
        contest: The problem; nothing is matched.
        rules: Of the port.
    """
    if not rules.folds or not rules.direct_steps:
        return Outlook()
    few = next(mark for mark in marks(rules.direct_steps) if mark * SHARE >= rules.direct_steps)
    fold = folds_of(contest.working, rules)[0]
    known, left_out = contest.working.take(fold.train), contest.working.take(fold.held_out)
    identity = Permutation.identity(contest.spec)

    def loss(length: float) -> float:
        params = contest.space.dense(contest.space.place(identity, length))
        return contest.judge(params, contest.working).loss

    def curves(length: float) -> list[dict[int, float]]:
        trial = Trial("first", lambda: contest.space.place(identity, length), known, left_out)
        return [curve(contest, rules, trial, lr, few) for lr in rules.learning_rates]

    untouched = curves(0.0)
    if 0 not in untouched[0]:  # no finite loss: the port itself will say so
        return untried(rules)
    lengths = (0.0, *contest.source.fractions[1:], *rules.scales)
    best = min(lengths, key=loss)
    found = [untouched, curves(best) if best else untouched]
    spans = [_span(one, rules) for start in found for one in start]
    return Outlook(
        tuple(least for least, _ in spans),
        tuple(most for _, most in spans),
        tuple(_final(start, rules) for start in found),
    )


def _span(found: dict[int, float], rules: Rules) -> tuple[int, int]:
    """Where a curve ends at the earliest and at the latest, given its beginning."""
    all_marks = marks(rules.direct_steps)
    end = all_marks[: all_marks.index(_best(found)) + PATIENCE + 1][-1]
    return (end, end) if end <= max(found) else (end, rules.direct_steps)


def _final(start: list[dict[int, float]], rules: Rules) -> tuple[int, int]:
    """The final training takes the best number of steps of all learning rates."""
    chosen = min(start, key=lambda found: min(found.values()))
    is_over = all(_span(found, rules)[1] <= max(found) for found in start)
    return _best(chosen), _best(chosen) if is_over else rules.direct_steps


def _best(found: dict[int, float]) -> int:
    return min(found, key=lambda step: (found[step], step))
