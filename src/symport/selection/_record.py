"""The record of a selection that pages, model cards, files and commands show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from symport.selection._candidates import CandidateName, title
from symport.selection._select import Outcome
from symport.selection._summary import share_of_lift


@dataclass(frozen=True)
class Row:
    """The result of one candidate, or of the source's start or end.

    Attributes:
        name: Its title.
        loss: Mean loss on the held-out examples.
        accuracy: In [0, 1], or None.
        share: Share of lift with its interval, or None.
        cross_validated: Mean loss in cross-validation, or None.
        how: Step, scale and training.

    Example:
        >>> Row("the identity", 0.25, 0.5, None, 0.3, "step 4, scale 1").cells
        ('the identity', '0.2500', '50.0%', '–', 'step 4, scale 1')
    """

    name: str
    loss: float
    accuracy: float | None
    share: str | None
    cross_validated: float | None
    how: str

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """As text: name, loss, accuracy, share of lift, how."""
        accuracy = "–" if self.accuracy is None else f"{self.accuracy:.1%}"
        return self.name, f"{self.loss:.4f}", accuracy, self.share or "–", self.how


def header(*, is_own_loss: bool) -> tuple[str, str, str, str, str]:
    """What the columns of `Row.cells` are.

    Args:
        is_own_loss: Whether the loss is a function of the user's; those of the library are in nats.

    Example:
        >>> header(is_own_loss=False)
        ('', 'loss (nats)', 'accuracy', 'share of lift', 'how')
    """
    return "", "loss" if is_own_loss else "loss (nats)", "accuracy", "share of lift", "how"


def rows_of(outcome: Outcome, seed: int) -> list[Row]:
    """Rows for the source's start and end, and one for each candidate.

    Args:
        outcome: What a selection found.
        seed: Of the bootstrap.

    Example:
        With the outcome of the example of `select`:

        >>> for row in rows_of(outcome, seed=0)[:4]:
        ...     print(row.name, row.loss, row.share)
        the old base 1.0 None
        its fine-tune 0.0 None
        the untouched new base 1.0 0% (0% to 0%)
        the identity 0.0 100% (100% to 100%)
    """
    ends = {
        outcome.terms.source_start: outcome.source_start,
        outcome.terms.source_end: outcome.source_end,
    }
    return [
        *(Row(name, e.loss, e.accuracy, None, None, "as it is") for name, e in ends.items()),
        *(_row(outcome, name, seed) for name in outcome.plans),
    ]


def numbers_of(outcome: Outcome, seed: int) -> dict[str, Any]:
    """What a selection found, as JSON holds it: the pick, the examples, each candidate's numbers.

    Args:
        outcome: What a selection found.
        seed: Of the bootstrap.

    Example:
        With the outcome of the example of `select`:

        >>> numbers = numbers_of(outcome, seed=0)
        >>> numbers["picked"], numbers["candidates"]["identity"]["loss"]
        ('identity', 0.0)
    """
    start, end = outcome.source_start, outcome.source_end
    return {
        "picked": outcome.pick,
        "training_examples": outcome.training_examples,
        "held_out_examples": outcome.held_out_examples,
        "units_moved": outcome.units_moved,
        "source_start": {"loss": start.loss, "accuracy": start.accuracy},
        "source_end": {"loss": end.loss, "accuracy": end.accuracy},
        "candidates": {name: _numbers(outcome, name, seed) for name in outcome.plans},
    }


def _row(outcome: Outcome, name: CandidateName, seed: int) -> Row:
    plan, evaluated = outcome.plans[name], outcome.evaluated[name]
    share = share_of_lift(outcome, name, seed)
    parts = [] if plan.kind == "untouched" else [f"step {plan.step}, scale {plan.scale:g}"]
    if plan.training is not None:
        parts.append(f"{plan.training.steps} steps at {plan.training.lr:g}")
    percent = None if share is None else share.percent
    how = "; ".join(parts) or "–"
    called = title(name, plan, outcome.terms)
    return Row(called, evaluated.loss, evaluated.accuracy, percent, plan.loss, how)


def _numbers(outcome: Outcome, name: CandidateName, seed: int) -> Mapping[str, Any]:
    plan, evaluated = outcome.plans[name], outcome.evaluated[name]
    share = share_of_lift(outcome, name, seed)
    return {
        "loss": evaluated.loss,
        "accuracy": evaluated.accuracy,
        "share_of_lift": None if share is None else [share.value, share.low, share.high],
        "cross_validated_loss": plan.loss,
        "step": plan.step,
        "scale": plan.scale,
        "direct_steps": None if plan.training is None else plan.training.steps,
        "learning_rate": None if plan.training is None else plan.training.lr,
    }
