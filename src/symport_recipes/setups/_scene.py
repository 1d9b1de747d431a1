"""A scene of the paper: a network, its data and its training; and what a seed draws from it.

A pair of seeds is a source s and a target s + 100, unless the scene says otherwise. If a scene
has a base, each starts from its own base network, with its own head.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

import symport
from symport.data import Labelled
from symport.errors import SettingsError
from symport.methods import Problem
from symport.model import LossGradient, evaluate, has_batchnorm, reestimate
from symport.params import Params
from symport_recipes.data import fixed_batches
from symport_recipes.networks import initial
from symport_recipes.setups._halves import Drawn, Halves, halves
from symport_recipes.training import TrainSettings, recorded, trained

TARGET_SEED = 100  # added to the source's, once for each target
HEAD_SEED = 1000  # added to a network's for its head, if it starts from a base
PIECE = 128  # samples that one gradient sees at once; the paper's batches are 128 times a number

Line: TypeAlias = Literal["linear", "recorded"]


@dataclass(frozen=True)
class Bench:
    """The cache and the device of an experiment.

    Attributes:
        cache: Folder of trained networks; None to train each time.
        device: Of networks and batches, such as `"cpu"` or `"cuda"`.
    """

    cache: Path | None = None
    device: str = "cpu"

    def folder(self, kind: str) -> Path:
        """A folder of the cache, for what takes too long to repeat.

        Raises:
            SettingsError: There is no cache.
        """
        if self.cache is None:
            raise SettingsError(f"{kind} are kept on disk: give the bench a cache")
        return self.cache / kind


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is trained and matched, on what, and how.

    Attributes:
        model: Makes the network.
        data: Name of the data set; a tenth of its training half becomes the validation set.
        training: Of the source, and of the target if it is trained too.
        steps: Length T of the transferred trajectory.
        batch_size: Samples of each gradient of the matching.
        statistics_size: Samples that BatchNorm is re-estimated on.
        gain: Of the initial weights, see `initial`; None for PyTorch's default.
        share: Of the training set that is used, in (0, 1].
        ring: If set, seeds are those below it, and each target is the next source. This saves
            training, but the pairs are not independent.
        base: The scene whose trained networks are the start, except for the head.
    """

    model: Callable[[], nn.Module]
    data: str
    training: TrainSettings
    steps: int
    batch_size: int = 128
    statistics_size: int = 2560
    gain: float | None = None
    share: float = 1.0
    ring: int | None = None
    base: "Scene | None" = None

    def target_seed(self, seed: int, number: int = 1) -> int:
        """The seed of a source's first, second … target."""
        if self.ring is None:
            return seed + number * TARGET_SEED
        if not 0 <= seed < self.ring:
            raise SettingsError(f"seed {seed}: this scene has the seeds 0 to {self.ring - 1} alone")
        return (seed + number) % self.ring

    def summary(self) -> dict[str, Any]:
        """All settings as what JSON can hold."""
        plain = {name: getattr(self, name) for name in SUMMARISED}
        base = None if self.base is None else self.base.summary()
        return {
            "model": describe(self.model),
            "training": asdict(self.training),
            **plain,
            "base": base,
        }


SUMMARISED = ("data", "steps", "batch_size", "statistics_size", "gain", "share", "ring")


@dataclass(frozen=True, eq=False)
class Network:
    """The start and the end of a training.

    Attributes:
        init: Its start.
        final: Its end.
        seconds: Time of the training when it was run.
        scores: Accuracy on the reporting set at the start and after each epoch, if asked for.
    """

    init: Params
    final: Params
    seconds: float
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """A trained source, an untrained target, and the batches for matching them.

    Attributes:
        scene: Settings of the target's side.
        model: Gives the function.
        source: Trained.
        target_init: The target initialization.
        batches: One for each step, the same for both.
        halves: The target's data.
    """

    scene: Scene
    model: nn.Module
    source: Network
    target_init: Params
    batches: Drawn
    halves: Halves

    def accuracy(self, params: Params, examples: Labelled | None = None) -> float:
        """Share of right answers in [0, 1], on the validation set by default."""
        examples = examples or self.halves.validation
        return _accuracy(self.model, self.finish(params), examples)

    def gradient(self, *, keep: bool = True) -> LossGradient:
        """A fresh counter of gradients on the batches, those of the source kept or not."""
        return LossGradient(self.model, cross_entropy, self.batches, micro_batch=PIECE, keep=keep)

    def finish(self, params: Params) -> Params:
        """The parameters with BatchNorm's statistics re-estimated, if there are any."""
        if not has_batchnorm(self.model):
            return params
        training = self.halves.training
        order = torch.randperm(len(training), generator=Generator().manual_seed(0))
        seen = training.take(order[: self.scene.statistics_size]).floats()
        return reestimate(self.model, params, seen.split(PIECE))

    def problem(self, source: symport.Trajectory | None = None) -> Problem:
        """The transfer along a trajectory of the source; the linear one by default."""
        source = source or self.linear()
        return Problem(source, self.target_init, spec_of(self.scene.model, self.scene.data))

    def linear(self) -> symport.Trajectory:
        """The straight line from the source's start to its end."""
        ends = self.source.init, self.source.final
        return symport.Trajectory.linear(*ends, self.scene.steps)


def draw(scene: Scene, seed: int, bench: Bench, *, source_scene: Scene | None = None) -> Pair:
    """Train a source or read it from the cache, and draw a target and batches.

    Args:
        scene: Of the target, and of the batches.
        seed: Of the source; `Scene.target_seed` has the target's.
        bench: Cache and device.
        source_scene: Of the source, if it is another; networks must have the same shapes.
    """
    data = halves(scene.data, scene.share)
    n = len(data.training)
    generator = Generator().manual_seed(seed)
    # Numbers in place of labels: what comes back are the places of the examples.
    numbers = torch.zeros(n, 1), torch.arange(n)
    drawn = fixed_batches(*numbers, scene.batch_size, scene.steps, generator)
    return Pair(
        scene,
        function(scene.model),
        network(source_scene or scene, seed, bench),
        start(scene, scene.target_seed(seed), bench),
        Drawn(data.training, [places for _, places in drawn]),
        data,
    )


def network(scene: Scene, seed: int, bench: Bench, *, scored: bool = False) -> Network:
    """The trained network of a seed."""
    init = start(scene, seed, bench)
    return carry_on(scene, init, scene.training, seed, bench, scored=scored)


def carry_on(
    scene: Scene,
    init: Params,
    training: TrainSettings,
    seed: int,
    bench: Bench,
    *,
    scored: bool = True,
) -> Network:
    """Train from given weights on the scene's data, or read the result from the cache."""
    data, model = halves(scene.data, scene.share), function(scene.model)

    def score(params: Params) -> float:
        return _accuracy(model, params, data.reporting)

    done = trained(
        model, init, data.training, training,
        seed=seed, folder=bench.cache, score=score if scored else None,
    )  # fmt: skip
    return Network(init, _on(bench, done.params), done.elapsed_seconds, done.scores)


def history(scene: Scene, seed: int, bench: Bench) -> symport.Trajectory:
    """The network after each epoch of its training, thinned to T steps."""
    data, model = halves(scene.data, scene.share), function(scene.model)
    init = start(scene, seed, bench)
    points = recorded(model, init, data.training, scene.training, seed=seed, folder=bench.cache)
    return points.thinned(scene.steps)


def start(scene: Scene, seed: int, bench: Bench) -> dict[str, Tensor]:
    """Initial weights: drawn, or a base's with a head that is drawn."""
    if scene.base is None:
        return _on(bench, initial(scene.model, seed, gain=scene.gain))
    base = network(scene.base, seed, bench).final
    fresh = _on(bench, initial(scene.model, HEAD_SEED + seed, gain=scene.gain))
    head = list(fresh)[-1].rpartition(".")[0] + "."
    return {name: tensor if name.startswith(head) else base[name] for name, tensor in fresh.items()}


def function(model: Callable[[], nn.Module]) -> nn.Module:
    """A network for its function; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return model()


@cache
def spec_of(model: Callable[[], nn.Module], data: str) -> symport.PermutationSpec:
    """The symmetry of a network, found once."""
    return symport.discover(function(model), halves(data).validation.inputs[:2])


def describe(model: Callable[[], nn.Module]) -> str:
    """How a network is made, in words.

    Example:
        >>> from symport_recipes.networks import conv8
        >>> describe(partial(conv8, width=0.25))
        'conv8(width=0.25)'
    """
    if not isinstance(model, partial):
        return f"{model.__name__}()"
    words = [*map(repr, model.args), *(f"{k}={v!r}" for k, v in model.keywords.items())]
    return f"{model.func.__name__}({', '.join(words)})"


def _accuracy(model: nn.Module, params: Params, on: Labelled) -> float:
    return evaluate(model, params, on.inputs, on.labels, batch_size=PIECE).accuracy


def _on(bench: Bench, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(bench.device) for name, tensor in params.items()}
