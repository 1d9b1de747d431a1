"""Assumptions of the paper's method: similar trajectories (Figure 3), Theorem 3.1, Lemma 3.2."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

import symport
from symport.matching import Pair as Aligned
from symport.methods import Problem
from symport.model import LossGradient
from symport.params import Params, inner, norm, subtract
from symport.spec import Permutation, PermutationSpec, permute
from symport_recipes.data import normalise
from symport_recipes.experiments._curves import method_of, states
from symport_recipes.networks import initial
from symport_recipes.runner import Found, PairExperiment
from symport_recipes.setups import TARGET_SEED, Bench, Scene, draw, function, halves, spec_of, start
from symport_recipes.training import train


@dataclass(frozen=True, kw_only=True)
class Similarity(PairExperiment):
    """Cosine between the updates of two trainings, one of them permuted, at some iterations.

    The permutation is one for all iterations, that of eq. 4 over the updates that are shown. Both
    networks see the same batches, at the constant initial rate.

    Attributes:
        scenes: By the name of the curve.
        iterations: Which updates θᵗ − θᵗ⁻¹ are compared, in rising order.
    """

    scenes: Mapping[str, Scene]
    iterations: Sequence[int]

    def pair(self, seed: int, bench: Bench) -> Found:
        """Train both networks of every scene for some iterations, match, compare."""
        curves: dict[str, list[float]] = {}
        for name, scene in self.scenes.items():
            source, target = (
                self._updates(scene, start(scene, s, bench), seed)
                for s in (seed, scene.target_seed(seed))
            )
            spec = spec_of(scene.model, scene.data)
            pairs = [Aligned(b, a) for a, b in zip(source, target, strict=True)]
            found = symport.match(spec, pairs).permutation
            curves[f"{name}, matched"] = cosines(source, target, spec, found)
            identity = Permutation.identity(spec)
            curves[f"{name}, identity"] = cosines(source, target, spec, identity)
        return Found(x=list(self.iterations), curves=curves)

    def summary(self) -> dict[str, Any]:
        """Scenes and iterations."""
        scenes = {name: scene.summary() for name, scene in self.scenes.items()}
        return {"scenes": scenes, "iterations": list(self.iterations)}

    def _updates(self, scene: Scene, init: Params, seed: int) -> list[dict[str, Tensor]]:
        wanted = sorted({t for last in self.iterations for t in (last - 1, last)} | {0})
        settings = replace(
            scene.training,
            epochs=None, steps=wanted[-1], schedule="constant", warmup_epochs=0,
        )  # fmt: skip
        seen: list[dict[str, Tensor]] = []
        data = halves(scene.data, scene.share).training
        train(
            function(scene.model), init, data, settings,
            seed=seed, recorder=seen.append, record_at=frozenset(wanted),
        )  # fmt: skip
        at = dict(zip(wanted, seen, strict=True))
        learned = {name for name, _ in function(scene.model).named_parameters()}
        updates = [subtract(at[t], at[t - 1]) for t in self.iterations]
        return [{n: d for n, d in update.items() if n in learned} for update in updates]


@dataclass(frozen=True, kw_only=True)
class Theorem31(PairExperiment):
    """Normalised distance of the expected gradients of two random networks, against their width N.

    f(x) = Σᵢ vᵢ ReLU(Σⱼ wᵢⱼ xⱼ), PyTorch's default initialization, mean squared error. Inputs are
    pixels in [0, 1], labels the numbers of the classes; the expectation is a mean over examples.

    Attributes:
        data: Name of the data set.
        widths: Values of N, rising.
        examples: Number of examples that approximate the distribution.
    """

    data: str
    widths: Sequence[int]
    examples: int

    def pair(self, seed: int, bench: Bench) -> Found:
        """Match the gradients of two networks of each width."""
        del bench
        examples = halves(self.data).training.take(torch.arange(self.examples))
        inputs, labels = normalise(examples.inputs).flatten(1), examples.labels.float()[:, None]
        found = [self._distances(inputs, labels, n, seed) for n in self.widths]
        names = ("matched", "identity", "random permutation")
        columns = zip(names, zip(*found, strict=True), strict=True)
        return Found(x=list(self.widths), curves={name: list(values) for name, values in columns})

    def summary(self) -> dict[str, Any]:
        """Data and widths."""
        return {"data": self.data, "widths": list(self.widths), "examples": self.examples}

    def _distances(
        self, inputs: Tensor, labels: Tensor, width: int, seed: int
    ) -> tuple[float, float, float]:
        def model() -> nn.Module:
            return two_layers(inputs.shape[1], width)

        patterns = {"hidden.weight": "h .", "out.weight": ". h"}
        spec = PermutationSpec.parse(patterns, sizes={"h": width})
        gradient = LossGradient(function(model), mse_loss, [(inputs, labels)])
        source, target = (gradient(initial(model, s), 0) for s in (seed, TARGET_SEED + seed))
        matched = symport.match(spec, [Aligned(target, source)]).permutation
        drawn = Permutation.random(spec, Generator().manual_seed(seed))
        first, second, third = (
            distance(permute(source, spec, p, partial=True), target)
            for p in (matched, Permutation.identity(spec), drawn)
        )
        return first, second, third


@dataclass(frozen=True, kw_only=True)
class Drift(PairExperiment):
    """How far θ₂ˢ moves when the permutation of step s is replaced by that of step s + 1.

    Relative to ‖θ₁ˢ − θ₁⁰‖; two random permutations are the reference without any agreement.

    Attributes:
        scene: What is transferred.
        methods: Which ways.
    """

    scene: Scene
    methods: Sequence[str] = ("gmt", "fgmt")

    def pair(self, seed: int, bench: Bench) -> Found:
        """Follow the permutations of every step."""
        at = draw(self.scene, seed, bench)
        problem = at.problem()
        generator = Generator().manual_seed(seed)
        found = {
            name: [state.permutation for _, state in states(problem, method_of(name, at, {}))]
            for name in self.methods
        }
        found["random"] = [Permutation.random(problem.spec, generator) for _ in found["fgmt"]]
        return Found(
            x=list(range(1, self.scene.steps)),
            curves={name: drifts(problem, chosen) for name, chosen in found.items()},
        )

    def summary(self) -> dict[str, Any]:
        """The scene's and the methods."""
        return {**self.scene.summary(), "methods": list(self.methods)}


def cosines(
    source: Sequence[Params],
    target: Sequence[Params],
    spec: PermutationSpec,
    permutation: Permutation,
) -> list[float]:
    """Cosine of each permuted source vector with its target."""
    moved = [permute(vector, spec, permutation, partial=True) for vector in source]
    return [inner(a, b) / (norm(a) * norm(b)) for a, b in zip(moved, target, strict=True)]


def distance(a: Params, b: Params) -> float:
    """‖a − b‖ / √(‖a‖ ‖b‖), which is √(2 − 2 cos) where both norms agree (§3.2).

    Example:
        >>> distance({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([4.0, 3.0])}) ** 2
        0.08
    """
    return norm(subtract(a, b)) / (norm(a) * norm(b)) ** 0.5


def drifts(problem: Problem, permutations: Sequence[Permutation]) -> list[float]:
    """‖θ₂ˢ under π_{s+1} − θ₂ˢ under π_s‖ / ‖θ₁ˢ − θ₁⁰‖ for s = 1 … T−1."""
    found: list[float] = []
    for s in range(1, len(permutations)):
        before, after = (problem.place(p, s) for p in permutations[s - 1 : s + 1])
        found.append(norm(subtract(after, before)) / norm(problem.source.displacement(s)))
    return found


def two_layers(inputs: int, width: int) -> nn.Module:
    """The network of Theorem 3.1, without biases."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            hidden=nn.Linear(inputs, width, bias=False),
            relu=nn.ReLU(),
            out=nn.Linear(width, 1, bias=False),
        )
    )
