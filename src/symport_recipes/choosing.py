"""How should few labels choose step and length? Digits, FGMT, eight pairs of seeds.

Four ways with the same n labels: the last step as it is; the candidate of least loss on the very
labels that matched; cross-validation by accuracy, which symport uses; and a fifth of the labels
kept back from matching to choose by. Beside them the best candidate by test accuracy, which no one
can know. Three minutes on two cores:

    python -m symport_recipes.choosing --out docs/results
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Generator

import symport
from symport.data import Labelled, stratified_folds
from symport.io import write_text
from symport.methods import Candidate, Identity, TransferResult, comparable
from symport.model import evaluate
from symport.params import Params
from symport.selection import LENGTHS, CompareSettings, cross_validate
from symport_recipes.demo import LABELS, STEPS, scene
from symport_recipes.runner import mean_sd

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

    def best(hand: Labelled, score: Callable[[Params], float]) -> TransferResult:
        """The best step or scale of the method, or step of the identity."""
        way = case.source, case.target_init, case.spec
        method = case.method(settings, hand)
        found = symport.transfer(*way, method, score=score, scales=LENGTHS)
        beside = symport.transfer(*way, Identity(), score=score)

        def rank(result: TransferResult) -> tuple[float, bool, int]:
            choice = result.choice
            return comparable(choice.score), result is found and choice.step > 0, choice.step

        return max(found, beside, key=rank)

    def chosen(choice: Candidate, *, identity: bool = False) -> TransferResult:
        method = Identity() if identity else case.method(settings, at.hand)
        way = case.source, case.target_init, case.spec
        return symport.transfer(*way, method, choice=choice)

    def loss(params: Params) -> float:
        return -evaluate(at.model, params, at.hand.inputs, at.hand.labels).nll

    def accuracy_on(labels: Labelled) -> Callable[[Params], float]:
        return lambda params: case.score(params, labels)

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
    results = {
        "last": chosen(Candidate(STEPS)),
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
