"""Training after a transfer: its curve (Figure 6), ensembles (Table E.2), a better base (Figure 8).

Training starts from the step of a transfer that scores best on a fifth of the validation set; all
that is reported is measured on the other four fifths.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from symport.model import accuracy, ece, evaluate, nll, predict
from symport.params import Params
from symport_recipes.experiments._curves import METHODS, method_of, states
from symport_recipes.runner import Found, PairExperiment
from symport_recipes.setups import (
    Bench,
    Network,
    Pair,
    Scene,
    carry_on,
    draw,
    function,
    halves,
    network,
)
from symport_recipes.training import TrainSettings


@dataclass(frozen=True, eq=False)
class Start:
    """Where later training starts.

    Attributes:
        params: The best step of a transfer, or the untouched target if none is better.
        step: Which it is.
        evaluations: Gradients that the transfer took.
    """

    params: Params
    step: int
    evaluations: int


def best_start(at: Pair, name: str, target_final: Params) -> Start:
    """The step of a transfer with the highest accuracy on the choosing part of validation."""
    problem, method, evaluations = at.problem(), method_of(name, at, target_final), 0
    best, top = Start(at.target_init, 0, 0), at.accuracy(at.target_init, at.halves.choosing)
    for step, state in states(problem, method):
        evaluations += state.cost.evaluations
        params = problem.place(state.permutation, step)
        if (score := at.accuracy(params, at.halves.choosing)) >= top:
            best, top = Start(params, step, 0), score
    return replace(best, evaluations=evaluations)


@dataclass(frozen=True, kw_only=True)
class Later(PairExperiment):
    """Accuracy after each epoch of training, from transferred parameters and from scratch.

    Attributes:
        scene: What is transferred; its own training is the standard one.
        training: Of transferred parameters.
        methods: Which transfers.
    """

    scene: Scene
    training: TrainSettings
    methods: Sequence[str] = METHODS

    def pair(self, seed: int, bench: Bench) -> Found:
        """Transfer by each method, train on from its best step."""
        at = draw(self.scene, seed, bench)
        standard = network(self.scene, self.scene.target_seed(seed), bench, scored=True)
        starts = {name: best_start(at, name, standard.final) for name in self.methods}
        runs = {"standard": standard}
        for name, begin in starts.items():
            runs[name] = after(
                self.scene, begin, self.training, self.scene.target_seed(seed), bench
            )
        return Found(
            x=list(range(max(len(run.scores) for run in runs.values()))),
            curves={name: run.scores for name, run in runs.items()},
            shares={"source, trained": at.accuracy(at.source.final, at.halves.reporting)},
            numbers={f"{name}: step": begin.step for name, begin in starts.items()},
            evaluations={name: begin.evaluations for name, begin in starts.items()},
            seconds={
                "source, trained": at.source.seconds,
                **{name: run.seconds for name, run in runs.items()},
            },
        )

    def summary(self) -> dict[str, Any]:
        """The scene's, the later training and the methods."""
        return _summary(self)


@dataclass(frozen=True, kw_only=True)
class Ensembles(PairExperiment):
    """A source and targets that were transferred and trained on, against all trained alone.

    Attributes:
        scene: What is transferred.
        training: Of transferred parameters.
        methods: Which transfers.
        members: Networks in an ensemble, the source included.
    """

    scene: Scene
    training: TrainSettings
    methods: Sequence[str] = ("gmt", "fgmt")
    members: int = 2

    def pair(self, seed: int, bench: Bench) -> Found:
        """Make the members of each ensemble and average their probabilities."""
        at = draw(self.scene, seed, bench)
        names = ("standard", *self.methods)
        others: dict[str, list[Network]] = {name: [] for name in names}
        for number in range(1, self.members):
            target_seed = self.scene.target_seed(seed, number)
            alone = network(self.scene, target_seed, bench, scored=True)
            others["standard"].append(alone)
            pair = replace(at, target_init=alone.init)
            for name in self.methods:
                begin = best_start(pair, name, alone.final)
                others[name].append(after(self.scene, begin, self.training, target_seed, bench))
        shares: dict[str, float] = {}
        numbers: dict[str, float] = {"members": self.members}
        for name, networks in others.items():
            of = together([_logits(at, n.final) for n in (at.source, *networks)], at)
            shares |= {f"{name}: {what}": value for what, value in of.items() if what != "NLL"}
            epochs = (self.scene if name == "standard" else self).training.epochs or 0
            numbers |= {f"{name}: NLL (nats)": of["NLL"], f"{name}: epochs of a target": epochs}
        trainings = {name: sum(n.seconds for n in networks) for name, networks in others.items()}
        return Found(shares=shares, numbers=numbers, seconds=trainings)

    def summary(self) -> dict[str, Any]:
        """The scene's, the later training, the methods and the number of members."""
        return {**_summary(self), "members": self.members}


@dataclass(frozen=True, kw_only=True)
class Inheritance(PairExperiment):
    """FGMT from a source on a poor base, to a poor and to a good base; and training on each.

    Attributes:
        good: A scene whose base is trained on all data.
        poor: The same with a base that is trained on little data.
        training: Of transferred parameters.
    """

    good: Scene
    poor: Scene
    training: TrainSettings

    def pair(self, seed: int, bench: Bench) -> Found:
        """Transfer from the poor base to both, train on, and train both alone."""
        runs: dict[str, Network] = {}
        bases: dict[str, float] = {}
        for name, scene in (("good", self.good), ("poor", self.poor)):
            at = draw(scene, seed, bench, source_scene=self.poor)
            alone = network(scene, scene.target_seed(seed), bench, scored=True)
            begin = best_start(at, "fgmt", alone.final)
            runs[f"fgmt, poor to {name} base"] = after(
                scene, begin, self.training, scene.target_seed(seed), bench
            )
            runs[f"standard from {name} base"] = alone
            if scene.base is not None:
                bases[f"{name} base, on its data"] = _accuracy_of_base(scene.base, seed, bench)
        return Found(
            x=list(range(max(len(run.scores) for run in runs.values()))),
            curves={name: run.scores for name, run in runs.items()},
            shares=bases,
            seconds={name: run.seconds for name, run in runs.items()},
        )

    def summary(self) -> dict[str, Any]:
        """Both scenes and the later training."""
        scenes = {"good": self.good.summary(), "poor": self.poor.summary()}
        return {**scenes, "later": asdict(self.training)}


def after(scene: Scene, begin: Start, training: TrainSettings, seed: int, bench: Bench) -> Network:
    """Train from the result of a transfer."""
    return carry_on(scene, begin.params, training, seed, bench)


def together(logits: Sequence[Tensor], at: Pair) -> dict[str, float]:
    """How good the mean of the members' probabilities is, and how much the members differ.

    Args:
        logits: Of each member on the reporting set, `(samples, classes)`.
        at: Has the labels.

    Returns:
        Accuracy of the ensemble and mean accuracy of its members, disagreement (the share of
        samples on which two members answer differently, mean over pairs), ECE and NLL.
    """
    labels = at.halves.reporting.labels.to(logits[0].device)
    mean = torch.stack([each.double().softmax(-1) for each in logits]).mean(0).log()
    answers = [each.argmax(-1) for each in logits]
    differ = [float((a != b).double().mean()) for a, b in combinations(answers, 2)]
    return {
        "accuracy": accuracy(mean, labels),
        "mean member": statistics.mean(accuracy(each, labels) for each in logits),
        "disagreement": statistics.mean(differ),
        "ECE": ece(mean, labels),
        "NLL": nll(mean, labels),
    }


def _logits(at: Pair, params: Params) -> Tensor:
    return predict(at.model, at.finish(params), at.halves.reporting.inputs)


def _accuracy_of_base(base: Scene, seed: int, bench: Bench) -> float:
    done = network(base, base.target_seed(seed), bench)
    seen = halves(base.data, base.share).reporting
    return evaluate(function(base.model), done.final, seen.inputs, seen.labels).accuracy


def _summary(of: Later | Ensembles) -> dict[str, Any]:
    later = asdict(of.training)
    return {**of.scene.summary(), "later": later, "methods": list(of.methods)}
