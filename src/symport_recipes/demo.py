"""The main job on scikit-learn's digits: few labels, several ways to use them.

A source is trained on its own 400 digits. The target is another random initialization, whose side
has n labels of other digits and nothing else: they match, they choose step and length (by
cross-validation), and they train the target directly for comparison. Accuracy is on digits that
took no part. The oracle alone sees the source's digits; it is a reference, not a rival.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

import symport
from symport.data import Labelled
from symport.io import write_text
from symport.methods import Oracle
from symport.model import evaluate
from symport.params import Params
from symport.progress import bar
from symport.report import Curve, Section, draw, png, save_picture, write_report
from symport.selection import Case, CompareSettings, compare
from symport_recipes.data import digits, split
from symport_recipes.networks import digits_mlp, initial
from symport_recipes.runner import markdown, mean_sd, sd
from symport_recipes.training import TrainSettings, train

LABELS = (20, 100, 1000)
SEEDS = (0, 1, 2)
STEPS = 10
PARTS = (400, 1000, 397)  # digits of the source, of the target's side, of the test set
TRAINING = TrainSettings(epochs=30, batch_size=64, lr=0.1)
COLUMNS = ("untouched", "naive", "gmt", "fgmt", "oracle", "direct")


@dataclass(frozen=True, eq=False)
class Scene:
    """A trained source, a target initialization, and what the target's side has.

    Attributes:
        model: Gives the computation.
        source_init: The source's initialization.
        source_final: The trained source.
        target_init: Another initialization.
        target_final: The target after training on the source's digits, for the oracle alone.
        hand: The labels at hand.
        test: Labels that only report.
    """

    model: nn.Module
    source_init: Params
    source_final: Params
    target_init: Params
    target_final: Params
    hand: Labelled
    test: Labelled

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """All labels at hand as one batch."""
        return [(self.hand.inputs, self.hand.labels)]

    def case(self) -> Case:
        """The transfer with these labels, along a linear trajectory."""
        source = symport.Trajectory.linear(self.source_init, self.source_final, STEPS)
        spec = symport.discover(self.model, self.test.inputs[:2])
        return Case(self.model, cross_entropy, source, self.target_init, spec, self.hand)

    def accuracy(self, params: Params) -> float:
        """Share of right answers on the test set, in [0, 1]."""
        return evaluate(self.model, params, self.test.inputs, self.test.labels).accuracy


def scene(labels: int, seed: int = 0) -> Scene:
    """Train a source on its own digits, and deal so many labels to the target's side."""
    source_side, target_side, test = _sides(seed)
    model, seeds = digits_mlp(), (seed, 100 + seed)
    inits = [initial(digits_mlp, s) for s in seeds]
    data = (source_side.inputs, source_side.labels)
    finals = [
        train(model, init, data, TRAINING, seed=s).params
        for init, s in zip(inits, seeds, strict=True)
    ]
    # Labels come as they come: classes are not balanced, and a larger set begins with a smaller.
    order = torch.randperm(len(target_side), generator=Generator().manual_seed(seed))
    hand = target_side.take(order[:labels])
    return Scene(model, inits[0], finals[0], inits[1], finals[1], hand, test)


@dataclass(frozen=True)
class Outcome:
    """Test accuracy of each column for one pair of seeds and one number of labels.

    Attributes:
        seed: Of the source, the split and the labels; the target's is 100 higher.
        labels: Labels of the target's side, in all.
        source: Accuracy of the trained source.
        accuracy: By column, in [0, 1].
    """

    seed: int
    labels: int
    source: float
    accuracy: Mapping[str, float]


def run_one(seed: int, labels: int) -> Outcome:
    """Transfer a source with so many labels in every way, and compare."""
    at = scene(labels, seed)
    case = at.case()
    fgmt = compare(case, at.test, CompareSettings(method="fgmt", seed=seed)).entries
    gmt = compare(case, at.test, CompareSettings(method="gmt", seed=seed, direct_steps=0)).entries
    oracle = symport.transfer(case.source, at.target_init, case.spec, Oracle(at.target_final))
    accuracy = {
        "untouched": fgmt["untouched"].accuracy,
        "naive": fgmt["identity"].accuracy,
        "gmt": gmt["transfer"].accuracy,
        "fgmt": fgmt["transfer"].accuracy,
        "oracle": at.accuracy(oracle.params),
        "direct": fgmt["direct"].accuracy,
    }
    return Outcome(seed, labels, at.accuracy(at.source_final), accuracy)


def run_all(seeds: Sequence[int], labels: Sequence[int], *, progress: bool) -> list[Outcome]:
    """All combinations, as many at a time as there are cores."""
    jobs = [(seed, n) for n in labels for seed in seeds]
    workers = min(os.cpu_count() or 1, len(jobs))
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as
        pool,
        bar("digits", len(jobs), show=progress) as advance,
    ):  # fmt: skip
        futures = [pool.submit(run_one, seed, n) for seed, n in jobs]
        for future in as_completed(futures):
            done = future.result()
            advance(f"{done.labels} labels: fgmt {done.accuracy['fgmt']:.1%}")
        return [future.result() for future in futures]


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """One row for each number of labels: mean ± standard deviation over seeds, in percent."""
    return [
        [str(n), *(mean_sd(_column(outcomes, n, name)) for name in COLUMNS)]
        for n in sorted({outcome.labels for outcome in outcomes})
    ]


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Where the transfer wins, and where direct training does."""
    lines: list[str] = []
    for n in sorted({outcome.labels for outcome in outcomes}):
        pairs = zip(_column(outcomes, n, "fgmt"), _column(outcomes, n, "direct"), strict=True)
        gaps = [100 * (a - b) for a, b in pairs]
        gap = statistics.mean(gaps)
        all_agree = all(g > 0 for g in gaps) or all(g < 0 for g in gaps)
        winner = "the transfer wins" if gap > 0 else "direct training wins"
        doubt = "" if all_agree else " on average, but not for every seed"
        lines.append(f"With {n} labels {winner} by {abs(gap):.1f} points{doubt}.")
    return " ".join(lines)


def picture(outcomes: Sequence[Outcome]) -> bytes:
    """Accuracy against the number of labels."""
    labels = sorted({outcome.labels for outcome in outcomes})
    curves: dict[str, Curve] = {}
    for name in COLUMNS[1:]:
        values = [_column(outcomes, n, name) for n in labels]
        curves[name] = Curve(labels, [statistics.mean(v) for v in values], [sd(v) for v in values])
    figure = draw(
        {"digits, 512-512 MLP": curves}, xlabel="labels", ylabel="test accuracy", log_x=True
    )
    return png(figure)


def main(
    folder: Path = Path("runs/demo"),
    seeds: Sequence[int] = SEEDS,
    labels: Sequence[int] = LABELS,
) -> None:
    """Run, print one table, and write report, picture, page and numbers to a folder."""
    from rich.console import Console
    from rich.table import Table

    begun = time.perf_counter()
    outcomes = run_all(seeds, labels, progress=True)
    seconds = time.perf_counter() - begun
    rows, text, image = table(outcomes), verdict(outcomes), picture(outcomes)
    shown = Table("labels", *COLUMNS, title=f"Test accuracy in %, {len(seeds)} seed pairs")
    for row in rows:
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    console.print(text, highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"seconds": round(seconds, 1), "outcomes": [asdict(o) for o in outcomes]}
    write_text(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    save_picture(folder / "digits.png", image)
    write_text(folder / "digits.md", page(rows, text, seconds))
    section = Section("Test accuracy in %", __doc__ or "", ("labels", *COLUMNS), rows, image)
    write_report(folder / "report.html", "A transfer with few labels: digits", text, [section])
    console.print(f"{seconds:.0f} s; report: {folder / 'report.html'}", highlight=False)


def page(rows: Sequence[Sequence[str]], text: str, seconds: float) -> str:
    """The results as a page of the documentation."""
    lines = markdown(["labels", *COLUMNS], rows)
    return "\n".join(
        [
            "# Digits with few labels",
            "",
            "![Test accuracy against labels](digits.png)",
            "",
            *lines,
            "",
            text,
            "",
            "Test accuracy in %, mean ± standard deviation over pairs of seeds.",
            f"Made by `make demo` in {seconds:.0f} seconds, from `result.json` beside this page.",
            "",
            __doc__ or "",
        ]
    )


def _sides(seed: int) -> tuple[Labelled, Labelled, Labelled]:
    """Digits of the source, of the target's side, and of the test set."""
    data = digits()
    inputs = torch.cat([data.train_inputs, data.test_inputs])
    labels = torch.cat([data.train_labels, data.test_labels])
    parts = split(labels, PARTS, Generator().manual_seed(seed))
    source, target, test = (Labelled(inputs[index], labels[index]) for index in parts)
    return source, target, test


def _column(outcomes: Sequence[Outcome], labels: int, name: str) -> list[float]:
    return [o.accuracy[name] for o in outcomes if o.labels == labels]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    main(parser.parse_args().out)
