"""Accuracy along the steps of a transfer (Figures 4, 5 and 9), and against its settings."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from symport.methods import FGMT, Available, Method, Problem, State, make_method
from symport.model import train_directly
from symport.params import Params, norm
from symport.trajectory import Trajectory
from symport_recipes.runner import Found, PairExperiment
from symport_recipes.setups import Bench, Line, Pair, Scene, draw, history, network

METHODS = ("naive", "oracle", "gmt", "fgmt")
PAPER_NAMES = {"naive": "identity"}
DISPLACEMENT = "length of the source's displacement / of its start"


@dataclass(frozen=True)
class Walked:
    """A transfer by one method.

    Attributes:
        scores: After 0 to T steps.
        seconds: Of matching, without scoring.
        evaluations: Gradients computed.
    """

    scores: list[float]
    seconds: float
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class Curves(PairExperiment):
    """Validation accuracy after each step, by method, and of direct training.

    Attributes:
        scene: What is transferred.
        methods: Which ways.
        lines: Along the straight line, along the recorded epochs, or both.
    """

    scene: Scene
    methods: Sequence[str] = METHODS
    lines: Sequence[Line] = ("linear",)

    def pair(self, seed: int, bench: Bench) -> Found:
        """Transfer with every method along every line."""
        target_seed = self.scene.target_seed(seed)  # first: it knows whether the seed is allowed
        trajectories = {line: self._line(line, seed, bench) for line in self.lines}
        at = draw(self.scene, seed, bench)
        target = network(self.scene, target_seed, bench)
        walked: dict[str, Walked] = {}
        for line, trajectory in trajectories.items():
            problem = at.problem(trajectory)
            for name in self.methods:
                full = name if len(self.lines) == 1 else f"{name}, {line}"
                walked[full] = walk(at, problem, method_of(name, at, target.final))
        walked["direct"] = direct(at)
        return Found(
            x=list(range(self.scene.steps + 1)),
            curves={name: done.scores for name, done in walked.items()},
            shares={
                "source, trained": at.accuracy(at.source.final),
                "source, trained, on the test set": at.accuracy(at.source.final, at.halves.test),
                "target, trained": at.accuracy(target.final),
            },
            numbers={DISPLACEMENT: relative_displacement(at)},
            evaluations={name: done.evaluations for name, done in walked.items()},
            seconds={
                "source and target, trained": at.source.seconds + target.seconds,
                **{name: done.seconds for name, done in walked.items()},
            },
        )

    def summary(self) -> dict[str, Any]:
        """The scene's, the methods and the lines."""
        return {
            **self.scene.summary(),
            "methods": list(self.methods),
            "lines": list(self.lines),
        }

    def _line(self, line: Line, seed: int, bench: Bench) -> Trajectory | None:
        return history(self.scene, seed, bench) if line == "recorded" else None


@dataclass(frozen=True, kw_only=True)
class Sensitivity(PairExperiment):
    """FGMT's best and last step against one setting of the matching.

    Attributes:
        scene: What is transferred.
        of: The setting that is varied.
        values: Its values.
    """

    scene: Scene
    of: Literal["steps", "batch_size"]
    values: Sequence[int]

    def pair(self, seed: int, bench: Bench) -> Found:
        """One transfer for each value."""
        done: dict[int, Walked] = {}
        for value in self.values:
            scene = replace(self.scene, **{self.of: value})
            at = draw(scene, seed, bench)
            done[value] = walk(at, at.problem(), FGMT(at.gradient()))
        return Found(
            x=list(self.values),
            curves={
                "fgmt, best step": [max(walked.scores) for walked in done.values()],
                "fgmt, last step": [walked.scores[-1] for walked in done.values()],
            },
            evaluations={f"fgmt, {self.of} {v}": w.evaluations for v, w in done.items()},
            seconds={f"fgmt, {self.of} {v}": w.seconds for v, w in done.items()},
        )

    def summary(self) -> dict[str, Any]:
        """The scene's, and what is varied."""
        return {**self.scene.summary(), "of": self.of, "values": list(self.values)}


def states(problem: Problem, method: Method[Any]) -> Iterator[tuple[int, State[Any]]]:
    """The state of a method after each step 1 … T."""
    state = method.init(problem)
    for step in range(1, problem.source.steps + 1):
        state = method.step(problem, state, step)
        yield step, state


def relative_displacement(at: Pair) -> float:
    """‖θ₁ᵀ − θ₁⁰‖ / ‖θ₁⁰‖ of the source."""
    return norm(at.linear().displacement(-1)) / norm(at.source.init)


def walk(at: Pair, problem: Problem, method: Method[Any]) -> Walked:
    """Score every step of a transfer."""
    scores, seconds, evaluations = [at.accuracy(at.target_init)], 0.0, 0
    begun = time.perf_counter()
    for step, state in states(problem, method):
        seconds += time.perf_counter() - begun
        evaluations += state.cost.evaluations
        scores.append(at.accuracy(problem.place(state.permutation, step)))
        begun = time.perf_counter()
    return Walked(scores, seconds, evaluations)


def direct(at: Pair) -> Walked:
    """Train the target by Adam on the same batches, with as many gradients as FGMT: 2 a step."""
    scores: list[float] = []

    def watch(step: int, params: Params) -> bool:
        if step % 2 == 0:
            scores.append(at.accuracy(params))
        return False

    gradient = at.gradient()
    train_directly(gradient, at.target_init, steps=2 * at.scene.steps, watch=watch)
    return Walked(scores, gradient.elapsed_seconds, gradient.evaluations)


def method_of(name: str, at: Pair, target_final: Params) -> Method[Any]:
    """A fresh method by its name."""
    available = Available(
        gradient=at.gradient,
        model=at.model,
        inputs=lambda: [inputs for inputs, _ in at.batches],
        target_final=target_final,
    )
    return make_method(PAPER_NAMES.get(name, name), available)
