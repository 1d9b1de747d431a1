"""How should few labels choose step and length? Digits, FGMT, eight pairs of seeds.

Four ways with the same n labels: the last step as it is; the candidate of least loss on the very
labels that matched; cross-validation by accuracy, which symport uses; and a fifth of the labels
kept back from matching to choose by. Beside them the best candidate by test accuracy, which no one
can know. Three minutes on two cores:

    python -m symport_recipes.choosing --out docs/results
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Generator

import symport
from symport.data import Labelled, stratified_folds
from symport.io import write_text
from symport.methods import Candidate, TransferResult
from symport.model import evaluate
from symport.params import Params
from symport.selection import LENGTHS, CompareSettings, cross_validate
from symport_recipes.demo import LABELS, STEPS, scene
from symport_recipes.tables import mean_sd

SEEDS = tuple(range(8))
WAYS = ("last", "loss", "cross-validation", "kept back", "best possible")


@dataclass(frozen=True)
class Outcome:
    """Test accuracy of each way to choose, in [0, 1]."""

    seed: int
    labels: int
    accuracy: Mapping[str, float]


def run_one(seed: int, labels: int) -> Outcome:
    """Choose in every way, and score the choices on the test set."""
    at = scene(labels, seed)
    case = at.case()
    settings = CompareSettings()

    def carried(hand: Labelled, scored: Labelled, take: Candidate | None = None) -> TransferResult:
        return symport.transfer(
            case.source,
            case.target_init,
            case.spec,
            case.method(settings, hand),
            score=lambda params: case.score(params, scored),
            lengths=LENGTHS,
            take=take,
        )

    def loss(params: Params) -> float:
        return -evaluate(at.model, params, at.hand.inputs, at.hand.labels).nll

    by_loss = symport.transfer(
        case.source,
        case.target_init,
        case.spec,
        case.method(settings, at.hand),
        score=loss,
        lengths=LENGTHS,
    )
    folds = stratified_folds(at.hand.labels, settings.folds, Generator().manual_seed(seed))
    crossed = cross_validate(
        case.source,
        case.target_init,
        case.spec,
        lambda hand: case.method(settings, hand),
        at.hand,
        folds=folds,
        score=case.score,
    ).choice
    fold = folds[0]
    best = carried(at.hand, at.test)
    last = carried(at.hand, at.hand, Candidate("method", STEPS))
    kept_back = carried(at.hand.take(fold.train), at.hand.take(fold.held_out))
    accuracies = {
        "last": at.accuracy(last.params),
        "loss": at.accuracy(by_loss.params),
        "cross-validation": at.accuracy(carried(at.hand, at.hand, crossed).params),
        "kept back": at.accuracy(kept_back.params),
        "best possible": at.accuracy(best.params),
    }
    return Outcome(seed, labels, accuracies)


def page(outcomes: Sequence[Outcome]) -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Choosing with few labels",
        "",
        *(__doc__ or "").split("Three minutes")[0].strip().splitlines(),
        "",
    ]
    lines += [f"| labels | {' | '.join(WAYS)} |", "| --- " * (1 + len(WAYS)) + "|"]
    for n in sorted({outcome.labels for outcome in outcomes}):
        columns = [[o.accuracy[way] for o in outcomes if o.labels == n] for way in WAYS]
        cells = [mean_sd(column) for column in columns]
        lines.append(f"| {n} | {' | '.join(cells)} |")
    lines += ["", "Test accuracy in %, mean ± standard deviation. Made by"]
    return "\n".join([*lines, "`python -m symport_recipes.choosing --out docs/results`.", ""])


def main() -> None:
    """Run everything and write `choosing.json` and `choosing.md`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    folder = parser.parse_args().out
    jobs = [(seed, n) for n in LABELS for seed in SEEDS]
    with ProcessPoolExecutor(2, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        outcomes = list(pool.map(run_one, *zip(*jobs, strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "choosing.json", json.dumps([asdict(o) for o in outcomes], indent=1) + "\n")
    write_text(folder / "choosing.md", page(outcomes))


if __name__ == "__main__":
    main()
