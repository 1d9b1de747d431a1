"""All ways of using a fine-tune, in one scene, for one number of examples and one draw of them."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator

from symport.huggingface import find_family, find_folders
from symport.matching import gradients
from symport.methods import Problem
from symport.model import activations, with_activations
from symport.port import Loaded, PortSettings, align, find_spec, load_all
from symport.selection import (
    AdapterFactors,
    Evaluated,
    Outcome,
    Parameterization,
    SelectionProblem,
    WholeWeights,
    select,
)
from symport.settings import Rules
from symport.spec import Permutation, PermutationSpec
from symport.tasks import make_task
from symport.trajectory import Trajectory
from symport_recipes.ports._scene import Scene

# With one permutation, steps are only scales of one displacement. Training after the transfer is
# measured in the main run.
ONE_PERMUTATION = {"steps": 4, "direct_steps": 0}
WITHOUT_LABELS: tuple[Literal["weights", "activations"], ...] = ("weights", "activations")


@dataclass(frozen=True)
class Found:
    """What came out of one run.

    Attributes:
        scene: Which networks and task.
        target: Which new base.
        count: Number of examples.
        seed: Of their draw, and of all that is random afterwards.
        losses: Mean loss on the reporting set by way, in nats; `old base` and `fine-tune` are
            evaluated on their own base.
        accuracies: Share of right answers there, in [0, 1]; empty for language.
        plans: What was selected for each way: permutation, step, scale, steps of training.
        pick: The way that cross-validation over the examples picked.
        moved: The share of units that gradient matching moved.
        seconds: Of the whole run.
    """

    scene: str
    target: str
    count: int
    seed: int
    losses: Mapping[str, float]
    accuracies: Mapping[str, float]
    plans: Mapping[str, str]
    pick: str
    moved: float
    seconds: float

    def share(self, way: str) -> float:
        """Share of lift: the gain of the way on the new base, divided by that of the fine-tune.

        Example:
            >>> losses = {"untouched": 2.0, "direct": 1.5, "old base": 3.0, "fine-tune": 2.0}
            >>> Found("s", "t", 1, 0, losses, {}, {}, "direct", 0.0, 0.0).share("direct")
            0.5
        """
        lift = self.losses["old base"] - self.losses["fine-tune"]
        return (self.losses["untouched"] - self.losses[way]) / lift


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a port in memory, with the symmetry that `symport port` would use."""

    loaded: Loaded
    spec: PermutationSpec


def networks(scene: Scene, target: str, rules: Rules) -> Networks:
    """Load the networks of a scene as `symport port` does.

    Raises:
        SymportError: As `symport.port.port`.
    """
    places = (str(scene.old), str(scene.tuned), str(scene.targets[target]))
    names = dict(zip(("old_base", "tuned", "new_base"), places, strict=True))
    settings = PortSettings(**names, out=Path("unused"), **rules.model_dump())
    folders = find_folders(*places)
    family = find_family(folders)
    loaded = load_all(folders, family, settings)
    spec = find_spec(loaded.model, family, loaded.old, loaded.new, settings.fix_residual)
    return Networks(loaded, spec)


def problem_of(scene: Scene, nets: Networks, rules: Rules, count: int) -> SelectionProblem:
    """The port of a scene with so many examples, drawn by the seed of the rules."""
    loaded = nets.loaded
    order = torch.randperm(len(scene.pool), generator=Generator().manual_seed(rules.seed))
    case = SelectionProblem(
        loaded.model,
        make_task(scene.task, None),
        Trajectory.linear(loaded.old, loaded.tuned, rules.steps),
        loaded.new,
        nets.spec,
        _parameterization(nets, rules.seed),
        scene.pool.take(order[:count]),
        scene.reporting,
        rules.micro_batch,
    )
    return with_activity(case) if loaded.new_head else case


def with_activity(case: SelectionProblem, steps: float = 1.0) -> SelectionProblem:
    """The same port, with activations of the bases in the matching, weighted as so many steps."""
    spec = with_activations(case.spec, case.model)
    inputs = [case.task.feed(piece) for piece in case.training.inputs.split(case.micro_batch)]
    new, old = (
        activations(case.model, params, inputs, spec)
        for params in (case.target_init, case.source[0])
    )
    pairs = gradients(new, old, normalize=True)
    return replace(case, spec=spec, also=[replace(p, weight=steps * p.weight) for p in pairs])


def run_one(name: str, scene: Scene, target: str, rules: Rules, count: int) -> Found:
    """Run every way.

    Args:
        name: What the scene is called.
        scene: The networks, the task and the examples.
        target: Which new base.
        rules: How; its seed also draws the examples.
        count: Number of examples.
    """
    begun = time.perf_counter()
    nets = networks(scene, target, rules)
    case = problem_of(scene, nets, rules, count)
    outcome = _selected(case, rules, None)
    evaluated: dict[str, Evaluated] = {**outcome.evaluated}
    evaluated |= {"old base": outcome.source_start, "fine-tune": outcome.source_end}
    plans = {way: _told(plan) for way, plan in outcome.plans.items()}
    fewer = rules.model_copy(update=ONE_PERMUTATION)
    case = problem_of(scene, nets, fewer, count)  # fewer points on the same line
    for way in WITHOUT_LABELS:
        other = _selected(case, fewer, _aligned(way, case))
        kind = "transfer" if "transfer" in other.evaluated else "identity"
        evaluated[way], plans[way] = other.evaluated[kind], _told(other.plans[kind])
    return Found(
        name,
        target,
        count,
        rules.seed,
        {way: one.loss for way, one in evaluated.items()},
        {way: one.accuracy for way, one in evaluated.items() if one.accuracy is not None},
        plans,
        outcome.pick,
        outcome.units_moved,
        time.perf_counter() - begun,
    )


def _selected(case: SelectionProblem, rules: Rules, given: Permutation | None) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return select(case, rules, folder=Path(folder), given=given)


def _aligned(way: Literal["weights", "activations"], case: SelectionProblem) -> Permutation | None:
    problem = Problem(case.source, case.target_init, case.spec)
    batches = [case.task.feed(piece) for piece in case.training.inputs.split(case.micro_batch)]
    return align(way, problem, case.model, batches)


def _parameterization(nets: Networks, seed: int) -> Parameterization:
    loaded, spec = nets.loaded, nets.spec
    if loaded.adapter is not None:
        return AdapterFactors(loaded.new, loaded.adapter, spec, loaded.old, seed)
    change = Trajectory.linear(loaded.old, loaded.tuned, 1).displacement(1)
    return WholeWeights(loaded.new, change, spec)


def _told(plan: Any) -> str:
    text = f"{plan.kind}, step {plan.step}, length {plan.scale:g}"
    return (
        text
        if plan.training is None
        else f"{text}, {plan.training.steps} steps at {plan.training.lr:g}"
    )
