"""The candidates of a selection, and which of them has the least loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from symport.methods import comparable
from symport.selection._cross_validation import Kind, ScoredCandidate
from symport.selection._early_stopping import DirectTraining
from symport.selection._problem import Terms

CandidateName: TypeAlias = Literal["untouched", "identity", "transfer", "direct", "then direct"]

TIE = 1e-6  # relative: losses come from float32


@dataclass(frozen=True)
class Plan:
    """How one candidate is reached, decided by the training examples.

    Attributes:
        kind: Which permutation: the method's, or the identity; `"untouched"` needs none.
        step: How far along the trajectory.
        scale: Factor on the displacement.
        loss: Its mean loss in cross-validation; None if there was none.
        training: The direct training that follows, or None.

    Example:
        >>> Plan("identity", step=8, loss=0.5).comparable_loss
        0.5
        >>> Plan("identity", step=8).comparable_loss
        inf
    """

    kind: Kind
    step: int
    scale: float = 1.0
    loss: float | None = None
    training: DirectTraining | None = None

    @property
    def comparable_loss(self) -> float:
        """The loss to compare by: infinite if there is none."""
        return math.inf if self.loss is None else self.loss


def title(name: CandidateName, plan: Plan, terms: Terms | None = None) -> str:
    """What a candidate is called where results are printed.

    Example:
        >>> title("then direct", Plan("identity", 8))
        'the identity, then direct training'
    """
    first = "the transfer" if plan.kind == "method" else "the identity"
    target = (terms or Terms()).target.removeprefix("the ")
    names: dict[CandidateName, str] = {
        "untouched": f"the untouched {target}",
        "identity": "the identity",
        "transfer": "the transfer",
        "direct": "direct training",
        "then direct": f"{first}, then direct training",
    }
    return names[name]


def best_of_kind(candidates: Sequence[ScoredCandidate], kind: Kind) -> Plan:
    """The step and scale of least loss; among equals the one nearest to the whole displacement.

    Args:
        candidates: Their scores are minus their losses.
        kind: Which of them.
    """
    own = [c for c in candidates if c.kind == kind]
    best = max(own, key=lambda c: (comparable(c.score), c.step, -abs(c.scale - 1)))
    return Plan(best.kind, best.step, best.scale, -comparable(best.score))


def least_loss(plans: Mapping[CandidateName, Plan]) -> CandidateName:
    """The candidate of least loss; among equals the one that does less. Without losses, the method.

    Example:
        >>> least_loss({"untouched": Plan("untouched", 0, 1.0, 2.0),
        ...             "identity": Plan("identity", 4, 1.0, 2.0)})
        'untouched'
    """
    if plans["untouched"].loss is None:
        return "transfer" if "transfer" in plans else "identity"
    # No steps from a start are that start, which has a name of its own, and a loss of its own way
    # of rounding.
    plans = {n: p for n, p in plans.items() if p.training is None or p.training.steps}
    best = min(plan.comparable_loss for plan in plans.values())
    return next(n for n, p in plans.items() if p.comparable_loss <= best + TIE * abs(best))
