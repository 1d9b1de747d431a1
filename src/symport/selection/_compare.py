"""Was it worth it? A transfer beside the identity, direct training, and doing nothing.

All of them get the same labels. What is reported comes from labels that chose nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Generator, Tensor, nn

from symport.data import Labelled, ShuffledBatches, stratified_folds
from symport.errors import DataError, ParamsError, SettingsError
from symport.methods import (
    Available,
    Finish,
    Identity,
    Method,
    TransferResult,
    check_fit,
    make_method,
    takes,
    transfer,
)
from symport.model import (
    Loss,
    LossGradient,
    evaluate,
    has_batchnorm,
    nll,
    predict,
    reestimate,
    state_for,
    train_directly,
)
from symport.params import Params, check_finite, is_inexact
from symport.selection._cross_validation import CrossValidation, cross_validate
from symport.selection._intervals import mean_interval, too_few
from symport.settings import MAX_SEED, method_name
from symport.spec import PermutationSpec
from symport.trajectory import Trajectory

LENGTHS = (0.25, 0.5, 0.75, 1.25, 1.5, 2.0, 3.0)
RIVALS = {
    "direct": "direct training",
    "identity": "the identity",
    "untouched": "the untouched target",
}
TIE_BREAKER = 1e-3  # nats of likelihood decide only between equal accuracies of a few labels


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """How a transfer is run and what it is compared with.

    Attributes:
        method: One of `symport.settings.METHODS`, or `module:Class`.
        batch_size: Labels in a gradient; more labels make several batches, taken in turn.
        folds: Of the cross-validation that chooses step and length; 0 takes the last step.
        lengths: Factors on the displacement that compete.
        direct_steps: Steps of direct training; 0 leaves it out.
        direct_lr: Its learning rate (Adam).
        seed: Of folds and batch orders, from 0 to 2³² − 1.

    Raises:
        SettingsError: One of them is out of its range.
    """

    method: str = "fgmt"
    batch_size: int = 256
    folds: int = 5
    lengths: Sequence[float] = LENGTHS
    direct_steps: int = 500
    direct_lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        method_name(self.method)
        for name, least in (("batch_size", 1), ("folds", 0), ("direct_steps", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.folds == 1:
            raise SettingsError("folds must be 0, or at least 2")
        if self.seed > MAX_SEED:
            raise SettingsError(f"seed must be at most {MAX_SEED}, not {self.seed}")
        for name, values in (("a length", self.lengths), ("direct_lr", [self.direct_lr])):
            if odd := [value for value in values if not 0 < value < math.inf]:
                raise SettingsError(f"{name} must be positive and finite, not {odd[0]}")


@dataclass(frozen=True, eq=False)
class Entry:
    """One competitor on the test set.

    Attributes:
        params: Its parameters.
        right: Whether each test label was predicted, shape `(samples,)`, bool.
        nll: Mean negative log-likelihood, in nats.
    """

    params: Mapping[str, Tensor]
    right: Tensor
    nll: float

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return float(self.right.double().mean())

    @property
    def accuracy_error(self) -> float:
        """Standard error of the accuracy, √(p(1 − p)/n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.right.numel())


@dataclass(frozen=True, eq=False)
class Comparison:
    """A transfer and its rivals.

    Attributes:
        result: The transfer.
        chosen_by: The cross-validation, or None if the last step was taken.
        entries: `"untouched"`, `"identity"`, `"transfer"` and `"direct"`, on the test set.
        labels: Number of labels that matched, chose and trained.
        verdict: What this means, one sentence a rival.
        settings: How it was run.
    """

    result: TransferResult
    chosen_by: CrossValidation | None
    entries: Mapping[str, Entry]
    labels: int
    verdict: str
    settings: CompareSettings = field(default_factory=CompareSettings)


@dataclass(frozen=True, eq=False)
class Case:
    """What is to be transferred, and the labels at hand.

    Attributes:
        model: A classifier; gives the computation.
        loss: As for `LossGradient`.
        source: The source's trajectory.
        target_init: The target initialization.
        spec: The symmetry of the network.
        labelled: The labels that match, choose and train; classes from 0.
    """

    model: nn.Module
    loss: Loss
    source: Trajectory
    target_init: Params
    spec: PermutationSpec
    labelled: Labelled

    def gradient(self, labels: Labelled, batch_size: int) -> LossGradient:
        """The gradient on some labels, in batches as even as can be."""
        batches = [(part.inputs, part.labels) for part in _even(labels, batch_size)]
        return LossGradient(self.model, self.loss, batches)

    def method(self, settings: CompareSettings, labels: Labelled) -> Method[Any]:
        """The method of the settings, matching on some labels."""
        parts = _even(labels, settings.batch_size)
        batches = [(part.inputs, part.labels) for part in parts]
        available = Available(
            gradient=partial(LossGradient, self.model, self.loss, batches),
            model=self.model,
            inputs=lambda: [part.inputs for part in parts],
        )
        return make_method(settings.method, available)

    def finish(self, settings: CompareSettings) -> Finish:
        """Re-estimate BatchNorm on the labelled inputs, if there is any."""
        if not has_batchnorm(self.model):
            return dict
        inputs = [part.inputs for part in _even(self.labelled, settings.batch_size)]
        return lambda params: reestimate(self.model, params, inputs)

    def score(self, params: Params, labels: Labelled) -> float:
        """Accuracy, ties broken by likelihood."""
        scores = evaluate(self.model, params, labels.inputs, labels.labels)
        return scores.accuracy - TIE_BREAKER * scores.nll


def _even(labels: Labelled, batch_size: int) -> list[Labelled]:
    """Few batches, as even as can be: BatchNorm fails on a last one of one sample."""
    return labels.parts(math.ceil(len(labels) / batch_size))


def compare(
    case: Case,
    test: Labelled,
    settings: CompareSettings | None = None,
    *,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Comparison:
    """Transfer with the labels at hand, and compare with what else they could do.

    Args:
        case: What is to be transferred where.
        test: Labels that only report.
        settings: How.
        folder: As for `transfer`; cross-validation writes to `folds` in it.
        progress: Whether to show progress bars.

    Raises:
        DataError: The model fails on the examples, or labels are out of range; found out before
            anything is written.
        ParamsError: As `transfer`, or the target does not fit the model.
        SpecError: As `transfer`.
        FileError: As `transfer`.
    """
    settings = settings or CompareSettings()
    examples = {"the labelled examples": case.labelled, "the test set": test}
    check_examples(case.model, case.target_init, examples)
    check_fit(case.source, case.target_init, case.spec)
    if settings.direct_steps or takes(settings.method, "gradient"):
        case.gradient(case.labelled, settings.batch_size)(case.target_init, 0)  # fails early
    finish = case.finish(settings)
    folds = None if folder is None else Path(folder) / "folds"
    chosen = _cross_validate(case, settings, finish, folds, progress=progress)
    is_identity = chosen is not None and chosen.choice.kind == "identity"
    result = transfer(
        case.source,
        case.target_init,
        case.spec,
        Identity() if is_identity else case.method(settings, case.labelled),
        choice=chosen.choice.candidate if chosen else None,
        finish=finish,
        folder=folder,
        progress=progress,
    )
    rivals = _rivals(case, settings, finish, progress=progress)
    entries = {
        name: _entry(case.model, params, test)
        for name, params in {**rivals, "transfer": result.params}.items()
    }
    labels = len(case.labelled)
    return Comparison(result, chosen, entries, labels, accuracy_verdict(entries), settings)


def check_examples(model: nn.Module, params: Params, examples: Mapping[str, Labelled]) -> None:
    """Raise unless the model can be scored on some sets of examples.

    Args:
        model: A classifier.
        params: A state dict of the model.
        examples: Sets of examples, under the names by which messages call them.

    Raises:
        ParamsError: The parameters do not fit the model, are integers, or hold NaN or infinity.
        DataError: The model fails on a set, or a label is no class of it.
    """
    check_finite(params, "the target initialization")
    try:
        state = state_for(model, params)
    except ParamsError as error:
        raise ParamsError(f"the target initialization does not fit the model: {error}") from error
    if odd := [name for name, _ in model.named_parameters() if not is_inexact(state[name])]:
        raise ParamsError(
            f"{odd[0]}: weights of {state[odd[0]].dtype} cannot be transferred; convert them to a "
            "floating-point dtype first"
        )
    for name, part in examples.items():
        try:
            evaluate(model, params, part.inputs, part.labels)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error


def _cross_validate(
    case: Case, settings: CompareSettings, finish: Finish, folder: Path | None, *, progress: bool
) -> CrossValidation | None:
    if not settings.folds or len(case.labelled) < 2:
        return None
    generator = Generator().manual_seed(settings.seed)
    count = min(settings.folds, len(case.labelled))
    return cross_validate(
        case.source,
        case.target_init,
        case.spec,
        lambda labels: case.method(settings, labels),
        case.labelled,
        folds=stratified_folds(case.labelled.labels, count, generator),
        score=case.score,
        finish=finish,
        scales=settings.lengths,
        folder=folder,
        progress=progress,
    )


def _rivals(
    case: Case, settings: CompareSettings, finish: Finish, *, progress: bool
) -> dict[str, Params]:
    naive = transfer(case.source, case.target_init, case.spec, Identity(), finish=finish)
    rivals: dict[str, Params] = {"untouched": case.target_init, "identity": naive.params}
    if settings.direct_steps:
        batches = ShuffledBatches(
            case.labelled,
            size=settings.batch_size,
            count=settings.direct_steps,
            seed=settings.seed,
        )
        trained = train_directly(
            LossGradient(case.model, case.loss, batches),
            case.target_init,
            steps=settings.direct_steps,
            lr=settings.direct_lr,
            progress=progress,
        )
        rivals["direct"] = finish(trained)
    return rivals


def _entry(model: nn.Module, params: Params, test: Labelled) -> Entry:
    logits = predict(model, params, test.inputs)
    labels = test.labels.to(logits.device)
    return Entry(params, logits.argmax(-1) == labels, nll(logits, labels))


def accuracy_verdict(entries: Mapping[str, Entry]) -> str:
    """Say who wins, by how much, and whether the test set is large enough to tell.

    By the rule of `port`: a 95% bootstrap interval over the paired labels that does not reach 0.

    Args:
        entries: `"transfer"` and any of its rivals, on the same test labels.

    Returns:
        One line for each rival; of fewer than 6 labels one line that says so.

    Example:
        >>> import torch
        >>> half, all_right = torch.arange(40) < 20, torch.ones(40, dtype=torch.bool)
        >>> entries = {"transfer": Entry({}, all_right, 0.1), "direct": Entry({}, half, 0.9)}
        >>> accuracy_verdict(entries)
        'Transfer beats direct training by 50.0 points (35.0 to 65.0): 100.0% against 50.0%.'
    """
    if few := too_few(entries["transfer"].right.numel(), "test labels"):
        return few
    return "\n".join(
        _duel("transfer", entries["transfer"], title, entries[name])
        for name, title in RIVALS.items()
        if name in entries
    )


def _duel(name: str, entry: Entry, rival_name: str, rival: Entry) -> str:
    """One sentence; a difference whose interval reaches 0 is called open."""
    gain = mean_interval(100 * (entry.right.double() - rival.right.double()).cpu())
    if gain.is_negative:
        name, entry, rival_name, rival, gain = rival_name, rival, name, entry, -gain
    numbers = f"{100 * entry.accuracy:.1f}% against {100 * rival.accuracy:.1f}%"
    if not gain.is_positive:
        return f"No clear difference between {name} and {rival_name}: {numbers}."
    first = name[0].upper() + name[1:]
    gap = f"{gain.value:.1f} points ({gain.low:.1f} to {gain.high:.1f})"
    return f"{first} beats {rival_name} by {gap}: {numbers}."
