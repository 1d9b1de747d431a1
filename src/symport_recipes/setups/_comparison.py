"""The protocol of the results on digits: selection by accuracy, direct training of fixed length.

`symport transfer` selects by the loss, as a port does. The committed results on digits were
selected by accuracy, ties decided by the likelihood, and are reproduced by these settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Generator, nn

from symport.data import Labelled, ShuffledBatches, stratified_folds
from symport.methods import Available, Identity, Method, make_method, transfer
from symport.model import Loss, LossGradient, evaluate, train_directly
from symport.params import Params
from symport.selection import cross_validate
from symport.spec import PermutationSpec
from symport.trajectory import Trajectory

SCALES = (0.25, 0.5, 0.75, 1.25, 1.5, 2.0, 3.0)
BATCH_SIZE = 256
FOLDS = 5
DIRECT_STEPS = 500
DIRECT_LEARNING_RATE = 1e-3
TIE_BREAKER = 1e-3  # nats of likelihood decide only between equal accuracies of a few labels


@dataclass(frozen=True, eq=False)
class Case:
    """What is to be transferred, and the labels at hand.

    Attributes:
        model: A classifier without BatchNorm; gives the computation.
        loss: As for `LossGradient`.
        source: The source's trajectory.
        target_init: The target initialization.
        spec: The symmetry of the network.
        labelled: The labels for matching, selection and training; classes from 0.
    """

    model: nn.Module
    loss: Loss
    source: Trajectory
    target_init: Params
    spec: PermutationSpec
    labelled: Labelled

    def method(self, name: str, labels: Labelled) -> Method[Any]:
        """A method, matching on some labels."""
        parts = labels.parts(math.ceil(len(labels) / BATCH_SIZE))
        batches = [(part.inputs, part.labels) for part in parts]
        available = Available(
            gradient=partial(LossGradient, self.model, self.loss, batches),
            model=self.model,
            inputs=lambda: [part.inputs for part in parts],
        )
        return make_method(name, available)

    def score(self, params: Params, labels: Labelled) -> float:
        """Accuracy, ties broken by likelihood."""
        scores = evaluate(self.model, params, labels.inputs, labels.labels)
        return scores.accuracy - TIE_BREAKER * scores.nll


def transferred(case: Case, name: str, seed: int) -> Params:
    """A transfer by a method, at the step and scale that cross-validated accuracy selects."""
    folds = stratified_folds(case.labelled.labels, FOLDS, Generator().manual_seed(seed))
    way = case.source, case.target_init, case.spec
    choice = cross_validate(
        *way,
        partial(case.method, name),
        case.labelled,
        folds=folds,
        score=case.score,
        scales=SCALES,
    ).choice
    method = Identity() if choice.kind == "identity" else case.method(name, case.labelled)
    return transfer(*way, method, choice=choice.candidate).params


def baselines(case: Case, seed: int) -> Mapping[str, Params]:
    """The untouched target, the identity's last step, and direct training of a fixed length."""
    identity = transfer(case.source, case.target_init, case.spec, Identity()).params
    batches = ShuffledBatches(case.labelled, size=BATCH_SIZE, count=DIRECT_STEPS, seed=seed)
    direct = train_directly(
        LossGradient(case.model, case.loss, batches),
        case.target_init,
        steps=DIRECT_STEPS,
        lr=DIRECT_LEARNING_RATE,
    )
    return {"untouched": case.target_init, "identity": identity, "direct": direct}
