"""Outcomes of an experiment that was never run."""

from symport_recipes.runner import Found
from symport_recipes.runner._pairs import Outcome


def outcome(seed: int, last: float) -> Outcome:
    found = Found(
        x=[0, 1, 2],
        curves={"fgmt": [0.1, 0.5, last]},
        shares={"target": 0.9, "source": 0.95},
        numbers={"barrier": 0.25},
        evaluations={"fgmt": 4},
        seconds={"fgmt": 1.5, "training": 60.0},
    )
    return Outcome(seed, {}, found, {"torch": "2.0", "seconds": "90"})


OUTCOMES = [outcome(0, 0.8), outcome(1, 0.9)]
