"""Transfer with few labels, on scikit-learn's digits, and the alternatives to it.

A source is trained on 400 digits. The target is another random initialization with n labelled other
digits and no further data: these are used for matching, for selecting step and scale (by
cross-validation), and for direct training as a comparison. Accuracy is measured on held-out digits.
Only the oracle uses the source's digits; it is a reference, not a baseline.
"""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import symport
from symport.io import write_text
from symport.methods import Oracle
from symport.report import Curve, Section, draw, png, save_picture, write_report
from symport_recipes.runner import RowExperiment, markdown, mean_sd, sd
from symport_recipes.setups import Bench, baselines, digits_scene, transferred

LABELS = (20, 100, 1000)
COLUMNS = ("untouched", "naive", "gmt", "fgmt", "oracle", "direct")


@dataclass(frozen=True)
class Outcome:
    """Test accuracy of each column for one pair of seeds and one number of labels.

    Attributes:
        seed: Of the source, the split and the labels; the target's is 100 higher.
        labels: Labels of the target's side, in all.
        source: Accuracy of the trained source.
        accuracy: By column, in [0, 1].
        seconds: Processor time of all of it.
    """

    seed: int
    labels: int
    source: float
    accuracy: Mapping[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class Demo(RowExperiment[Outcome]):
    """The transfers of the digits; a case is a number of labels and a seed.

    Attributes:
        labels: How many the target's side has, in turn.
    """

    labels: Sequence[int] = LABELS
    workers = os.cpu_count() or 1
    file = "result.json"
    kind = Outcome
    key = ("labels", "seed")

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[Any, ...]]:
        """Every seed for every number of labels."""
        return [(n, seed) for n in self.labels for seed in seeds]

    def measure(self, case: tuple[Any, ...], bench: Bench) -> Outcome:  # noqa: ARG002
        """Transfer in every way."""
        labels, seed = case
        return run_one(seed, labels)

    def content(self, records: Sequence[Outcome]) -> Any:
        """The rows, and the seconds of all of them."""
        seconds = sum(record.seconds for record in records)
        return {"seconds": round(seconds, 1), "outcomes": super().content(records)}

    def rows(self, content: Any) -> list[Mapping[str, Any]]:
        """The rows of what a file holds."""
        return content["outcomes"]

    def publish(self, folder: Path) -> Sequence[Path]:
        """Write `digits.md`, `digits.png` and `report.html`."""
        outcomes = self.records(folder / self.file)
        if not outcomes:
            return ()
        rows, text, image = table(outcomes), verdict(outcomes), picture(outcomes)
        save_picture(folder / "digits.png", image)
        write_text(folder / "digits.md", page(rows, text))
        section = Section("Test accuracy in %", __doc__ or "", ("labels", *COLUMNS), rows, image)
        report = folder / "report.html"
        write_report(report, "A transfer with few labels: digits", text, [section])
        return folder / "digits.md", report


def run_one(seed: int, labels: int) -> Outcome:
    """Transfer a source with so many labels in every way, and compare."""
    begun = time.process_time()
    at = digits_scene(labels, seed)
    case = at.case()
    found = baselines(case, seed)
    oracle = symport.transfer(case.source, at.target_init, case.spec, Oracle(at.target_final))
    columns = {
        "untouched": found["untouched"],
        "naive": found["identity"],
        "gmt": transferred(case, "gmt", seed),
        "fgmt": transferred(case, "fgmt", seed),
        "oracle": oracle.params,
        "direct": found["direct"],
    }
    accuracy = {name: at.accuracy(params) for name, params in columns.items()}
    source = at.accuracy(at.source_final)
    return Outcome(seed, labels, source, accuracy, round(time.process_time() - begun, 1))


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """One row for each number of labels: mean ± standard deviation over seeds, in percent."""
    return [
        [str(n), *(mean_sd(_column(outcomes, n, name)) for name in COLUMNS)]
        for n in sorted({outcome.labels for outcome in outcomes})
    ]


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Where the transfer is better, and where direct training is."""
    lines: list[str] = []
    for n in sorted({outcome.labels for outcome in outcomes}):
        pairs = zip(_column(outcomes, n, "fgmt"), _column(outcomes, n, "direct"), strict=True)
        gaps = [100 * (a - b) for a, b in pairs]
        gap = statistics.mean(gaps)
        all_agree = all(g > 0 for g in gaps) or all(g < 0 for g in gaps)
        better = "the transfer" if gap > 0 else "direct training"
        doubt = "" if all_agree else " on average, but not for every seed"
        lines.append(f"With {n} labels {better} is better by {abs(gap):.1f} points{doubt}.")
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


def page(rows: Sequence[Sequence[str]], text: str) -> str:
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
            "Made by `make demo`; `result.json` beside this page has the accuracies of each pair.",
            "",
            __doc__ or "",
        ]
    )


def _column(outcomes: Sequence[Outcome], labels: int, name: str) -> list[float]:
    return [o.accuracy[name] for o in outcomes if o.labels == labels]
