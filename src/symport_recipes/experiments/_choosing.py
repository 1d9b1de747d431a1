"""How to select step and scale with few labels: digits, FGMT, eight pairs of seeds.

Four ways with the same n labels: the last step; the candidate with the lowest loss on the labels
that were used for matching; cross-validated accuracy; and the accuracy on a fifth of the labels
that are kept out of the matching. For comparison, the best candidate by test accuracy, which is not
known in practice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Generator

import symport
from symport.data import Labelled, stratified_folds
from symport.io import write_text
from symport.methods import Candidate, Identity, TransferResult, comparable
from symport.model import evaluate
from symport.params import Params
from symport.selection import cross_validate
from symport_recipes.experiments._demo import LABELS
from symport_recipes.runner import RowExperiment, mean_sd
from symport_recipes.setups import DIGITS_FOLDS, DIGITS_SCALES, DIGITS_STEPS, Bench, digits_scene

WAYS = ("last", "loss", "cross-validation", "kept back", "best possible")


@dataclass(frozen=True)
class Outcome:
    """Test accuracy of each way of selection, in [0, 1]."""

    seed: int
    labels: int
    accuracy: Mapping[str, float]


@dataclass(frozen=True)
class Choosing(RowExperiment[Outcome]):
    """Every way of selection; a case is a number of labels and a seed.

    Attributes:
        labels: How many the target's side has, in turn.
    """

    labels: Sequence[int] = LABELS
    seeds = 8
    workers = 2
    file = "choosing.json"
    kind = Outcome
    key = ("labels", "seed")

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[Any, ...]]:
        """Every seed for every number of labels."""
        return [(n, seed) for n in self.labels for seed in seeds]

    def measure(self, case: tuple[Any, ...], bench: Bench) -> Outcome:  # noqa: ARG002
        """Choose in every way."""
        labels, seed = case
        return run_one(seed, labels)

    def publish(self, folder: Path) -> Sequence[Path]:
        """Write `choosing.md`."""
        outcomes = self.records(folder / self.file)
        if outcomes:
            write_text(folder / "choosing.md", page(outcomes))
        return (folder / "choosing.md",) if outcomes else ()


def run_one(seed: int, labels: int) -> Outcome:
    """Choose in every way, and score the choices on the test set."""
    at = digits_scene(labels, seed)
    case = at.case()

    def best(hand: Labelled, score: Callable[[Params], float]) -> TransferResult:
        """The best step or scale of the method, or step of the identity."""
        way = case.source, case.target_init, case.spec
        method = case.method("fgmt", hand)
        found = symport.transfer(*way, method, score=score, scales=DIGITS_SCALES)
        beside = symport.transfer(*way, Identity(), score=score)

        def rank(result: TransferResult) -> tuple[float, bool, int]:
            choice = result.choice
            return comparable(choice.score), result is found and choice.step > 0, choice.step

        return max(found, beside, key=rank)

    def chosen(choice: Candidate, *, identity: bool = False) -> TransferResult:
        method = Identity() if identity else case.method("fgmt", at.hand)
        way = case.source, case.target_init, case.spec
        return symport.transfer(*way, method, choice=choice)

    def loss(params: Params) -> float:
        return -evaluate(at.model, params, at.hand.inputs, at.hand.labels).nll

    def accuracy_on(labels: Labelled) -> Callable[[Params], float]:
        return lambda params: case.score(params, labels)

    folds = stratified_folds(at.hand.labels, DIGITS_FOLDS, Generator().manual_seed(seed))
    crossed = cross_validate(
        case.source,
        case.target_init,
        case.spec,
        lambda hand: case.method("fgmt", hand),
        at.hand,
        folds=folds,
        score=case.score,
        scales=DIGITS_SCALES,
    ).choice
    fold = folds[0]
    results = {
        "last": chosen(Candidate(DIGITS_STEPS)),
        "loss": best(at.hand, loss),
        "cross-validation": chosen(crossed.candidate, identity=crossed.kind == "identity"),
        "kept back": best(at.hand.take(fold.train), accuracy_on(at.hand.take(fold.held_out))),
        "best possible": best(at.hand, accuracy_on(at.test)),
    }
    accuracies = {way: at.accuracy(result.params) for way, result in results.items()}
    return Outcome(seed, labels, accuracies)


def page(outcomes: Sequence[Outcome]) -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Choosing with few labels",
        "",
        *(__doc__ or "").strip().splitlines(),
        "",
    ]
    lines += [f"| labels | {' | '.join(WAYS)} |", "| --- " * (1 + len(WAYS)) + "|"]
    for n in sorted({outcome.labels for outcome in outcomes}):
        columns = [[o.accuracy[way] for o in outcomes if o.labels == n] for way in WAYS]
        cells = [mean_sd(column) for column in columns]
        lines.append(f"| {n} | {' | '.join(cells)} |")
    lines += ["", "Test accuracy in %, mean ± standard deviation. Made by"]
    return "\n".join([*lines, "`symport-recipes run choosing --out docs/results`.", ""])
