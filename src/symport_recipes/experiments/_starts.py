"""Why a transfer succeeds or fails: accuracy as the start of a trained network is exchanged.

A transfer ends at θ₂⁰ + π(θ₁ᵀ − θ₁⁰) = πθ₁ᵀ + (θ₂⁰ − πθ₁⁰): the trained source with its start
exchanged for the target's. On the line between the two, a share c of the start is exchanged. If the
accuracy is lost long before c = 1, a permutation of the source's displacement succeeds only if it
makes the two starts similar. A larger scale of the displacement also reduces the effect of the
start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symport.model import interpolation_curve
from symport.params import Params, add
from symport.spec import Permutation, permute
from symport_recipes.experiments._curves import (
    DISPLACEMENT,
    method_of,
    relative_displacement,
    states,
)
from symport_recipes.runner import Found, PairExperiment
from symport_recipes.setups import Bench, Pair, Scene, draw, network


@dataclass(frozen=True, kw_only=True)
class OtherStarts(PairExperiment):
    """Accuracy of a trained source while its start is exchanged for the target's.

    Attributes:
        scenes: By name.
        methods: Whose permutation aligns the two starts.
        points: Shares from 0 to 1, evenly spaced.
    """

    scenes: Mapping[str, Scene]
    methods: Sequence[str] = ("naive", "oracle", "fgmt")
    points: int = 11

    def pair(self, seed: int, bench: Bench) -> Found:
        """Exchange the start of every scene's source, by the last permutation of each method."""
        curves: dict[str, Sequence[float]] = {}
        numbers: dict[str, float] = {}
        for name, scene in self.scenes.items():
            at = draw(scene, seed, bench)
            target = network(scene, scene.target_seed(seed), bench)
            for method in self.methods:
                curves[f"{name}, {method}"] = self._exchanged(at, method, target.final)
            numbers[f"{name}: {DISPLACEMENT}"] = relative_displacement(at)
        shares = [k / (self.points - 1) for k in range(self.points)]
        return Found(x=shares, curves=curves, numbers=numbers)

    def summary(self) -> dict[str, Any]:
        """Scenes, methods and the number of shares."""
        scenes = {name: scene.summary() for name, scene in self.scenes.items()}
        return {"scenes": scenes, "methods": list(self.methods), "points": self.points}

    def _exchanged(self, at: Pair, method: str, target_final: Params) -> Sequence[float]:
        last = last_permutation(at, method, target_final)
        problem = at.problem()
        moved = permute(at.source.final, problem.spec, last)
        end = problem.place(last, problem.source.steps)
        return interpolation_curve(at.accuracy, moved, end, points=self.points).values


@dataclass(frozen=True, kw_only=True)
class DisplacementScales(PairExperiment):
    """Accuracy at θ₂⁰ + α π(θ₁ᵀ − θ₁⁰) by scale α, π being the last permutation of each method.

    Attributes:
        scene: What is transferred.
        lengths: Values of α.
        methods: Which permutations.
    """

    scene: Scene
    lengths: Sequence[float]
    methods: Sequence[str] = ("naive", "oracle", "gmt", "fgmt")

    def pair(self, seed: int, bench: Bench) -> Found:
        """Score every scale of every method."""
        at = draw(self.scene, seed, bench)
        target = network(self.scene, self.scene.target_seed(seed), bench)
        spec, whole = at.problem().spec, at.linear().displacement(-1)
        curves: dict[str, list[float]] = {}
        for method in self.methods:
            moved = permute(whole, spec, last_permutation(at, method, target.final))
            places = (add(at.target_init, moved, scale) for scale in self.lengths)
            curves[method] = [at.accuracy(params) for params in places]
        return Found(x=list(self.lengths), curves=curves)

    def summary(self) -> dict[str, Any]:
        """The scene's, the scales and the methods."""
        rest = {"lengths": list(self.lengths), "methods": list(self.methods)}
        return {**self.scene.summary(), **rest}


def last_permutation(at: Pair, method: str, target_final: Params) -> Permutation:
    """The permutation of a method's last step."""
    *_, (_, state) = states(at.problem(), method_of(method, at, target_final))
    return state.permutation
