"""One runner for the paper's transfer experiments: train a source, carry it over, score each step.

An `Experiment` is settings alone; `run` does its pairs of seeds one by one and writes each to a
file of its own, so that an interrupted run goes on where it was.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Generator, nn
from torch.nn.functional import cross_entropy

import symport
from symport.batches import Labelled
from symport.batchnorm import has_batchnorm, reestimate
from symport.direct import train_directly
from symport.errors import FileError
from symport.evaluate import evaluate
from symport.files import write_text
from symport.methods import Method, Naive, Oracle
from symport.params import Params
from symport.progress import bar
from symport.report import Curve, draw, png
from symport.transfer import Finish
from symport_recipes.data import Dataset, fixed_batches, split
from symport_recipes.models import initial
from symport_recipes.training import TrainSettings, train

METHODS = ("naive", "oracle", "gmt", "fgmt")
TARGET_SEED = 100  # added to the source's


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A source, a target of another seed, and four ways to carry the one to the other.

    Attributes:
        name: Of its folder.
        title: What it shows.
        model: Makes the network.
        data: Reads the data set; a tenth of its training half becomes the validation set.
        training: Of the source, and of the target for the oracle.
        steps: Length T of the linear trajectory.
        batch_size: Samples of each gradient.
        statistics_size: Samples that BatchNorm is re-estimated on.
        published: The paper's accuracy at the last step, in %, by method.
        cost: In words: how long it takes, on what.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    data: Callable[[], Dataset]
    training: TrainSettings
    steps: int
    batch_size: int
    statistics_size: int = 2560
    published: Mapping[str, float] = field(default_factory=dict[str, float])
    cost: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one pair of seeds gave; accuracies are on the validation set, in [0, 1].

    Attributes:
        seed: Of the source; the target's is 100 higher.
        steps: For each method the accuracy after 0 to T steps.
        source: Of the trained source.
        target: Of the target, really trained.
        direct: Of the target after as many steps of Adam as FGMT computes gradients, on the same
            labels.
        evaluations: Gradients computed by each method.
        elapsed_seconds: Of each method, scoring included.
        training_seconds: Of source and target together.
        environment: Versions and machine.
    """

    seed: int
    steps: Mapping[str, Sequence[float]]
    source: float
    target: float
    direct: float
    evaluations: Mapping[str, int]
    elapsed_seconds: Mapping[str, float]
    training_seconds: float
    environment: Mapping[str, str]


def run(
    experiment: Experiment, folder: Path, seeds: Sequence[int], *, progress: bool = True
) -> list[Outcome]:
    """Do what is missing in `folder`, one file for each pair of seeds; return everything.

    Raises:
        FileError: The folder cannot be written, or holds a file of another form.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    with bar(experiment.name, len(seeds), show=progress) as advance:
        for seed in seeds:
            path = folder / f"seed-{seed}.json"
            if not path.exists():
                write_text(path, json.dumps(asdict(run_pair(experiment, seed)), indent=1) + "\n")
            outcomes.append(read_outcome(path))
            advance(f"fgmt {outcomes[-1].steps['fgmt'][-1]:.2%}")
    return outcomes


def read_outcome(path: Path) -> Outcome:
    """Read one file that `run` wrote; raises FileError if it is none."""
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"{path}: not the outcome of an experiment ({error})") from error


def run_pair(experiment: Experiment, seed: int) -> Outcome:
    """Train source and target, transfer with every method, score every step."""
    training, validation = _halves(experiment.data())
    model, seeds = experiment.model(), (seed, TARGET_SEED + seed)
    inits = [initial(experiment.model, s) for s in seeds]
    begun = time.perf_counter()
    data = (training.inputs, training.labels)
    trained = [
        train(model, init, data, experiment.training, seed=s).params
        for init, s in zip(inits, seeds, strict=True)
    ]
    training_seconds = time.perf_counter() - begun
    batches = fixed_batches(
        *data, experiment.batch_size, experiment.steps, Generator().manual_seed(seed)
    )
    finish = _finish(model, training, experiment)

    def accuracy(params: Params) -> float:
        return evaluate(model, params, validation.inputs, validation.labels).accuracy

    def gradient() -> symport.LossGradient:
        return symport.LossGradient(model, cross_entropy, batches)

    methods = [Naive(), Oracle(trained[1]), symport.GMT(gradient()), symport.FGMT(gradient())]
    source = symport.Trajectory.linear(inits[0], trained[0], experiment.steps)
    spec = symport.discover(model, validation.inputs[:2])
    results = {
        method.name: _transfer(source, inits[1], spec, method, accuracy, finish)
        for method in methods
    }
    direct = train_directly(gradient(), inits[1], steps=2 * experiment.steps)
    return Outcome(
        seed=seed,
        steps={
            name: [accuracy(inits[1]), *(record.score or 0.0 for record in result.history)]
            for name, result in results.items()
        },
        source=accuracy(trained[0]),
        target=accuracy(trained[1]),
        direct=accuracy(dict(finish(direct))),
        evaluations={name: result.evaluations for name, result in results.items()},
        elapsed_seconds={
            name: round(sum(record.elapsed_seconds for record in result.history), 2)
            for name, result in results.items()
        },
        training_seconds=round(training_seconds, 1),
        environment={"torch": torch.__version__, "machine": platform.machine()},
    )


def _transfer(
    source: symport.Trajectory,
    target_init: Params,
    spec: symport.PermutationSpec,
    method: Method,
    accuracy: Callable[[Params], float],
    finish: Finish,
) -> symport.TransferResult:
    return symport.transfer(source, target_init, spec, method, score=accuracy, finish=finish)


def _halves(data: Dataset) -> tuple[Labelled, Labelled]:
    """Training and validation, 9:1 (appendix D); the split is the same for all seeds."""
    inputs = data.train.floats()
    training, validation = split(data.train_labels, (0.9, 0.1), Generator().manual_seed(0))
    return (
        Labelled(inputs[training], data.train_labels[training]),
        Labelled(inputs[validation], data.train_labels[validation]),
    )


def _finish(model: nn.Module, training: Labelled, experiment: Experiment) -> Finish:
    if not has_batchnorm(model):
        return dict
    inputs = list(training.inputs[: experiment.statistics_size].split(experiment.batch_size))
    return lambda params: reestimate(model, params, inputs)


def table(experiment: Experiment, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row for each method: mean ± sd of every step in %, the published last step, gradients."""
    rows: list[list[str]] = []
    for name in METHODS:
        columns = zip(*(outcome.steps[name] for outcome in outcomes), strict=True)
        published = experiment.published.get(name)
        rows.append(
            [
                name,
                *(mean_sd(column) for column in columns),
                "–" if published is None else f"{published:.2f}",
                str(outcomes[0].evaluations[name]),
            ]
        )
    return rows


def curves(outcomes: Sequence[Outcome]) -> dict[str, Curve]:
    """Mean accuracy and its spread along the steps, by method."""
    result: dict[str, Curve] = {}
    for name in METHODS:
        columns = list(zip(*(outcome.steps[name] for outcome in outcomes), strict=True))
        means = [statistics.mean(column) for column in columns]
        spread = [statistics.stdev(c) if len(c) > 1 else 0.0 for c in columns]
        result[name] = Curve([float(step) for step in range(len(columns))], means, spread)
    return result


def picture(panels: Mapping[str, Sequence[Outcome]]) -> bytes:
    """The curves of several experiments side by side, as a PNG."""
    drawn = {title: curves(outcomes) for title, outcomes in panels.items()}
    return png(draw(drawn, xlabel="step", ylabel="validation accuracy"))


def mean_sd(values: Sequence[float]) -> str:
    """Mean ± standard deviation, in %, for values in [0, 1]."""
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.2f} ± {100 * sd:.2f}"
