"""Which options help gradient matching between independent transformers?

The small Llama, 64 examples. Share of lift on the reporting set, in %, at the
step and scale that are best there, so that selection adds no noise, and at the last step. Each row
differs from the first by the option that it names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import symport
from symport.errors import SettingsError
from symport.huggingface import quiet_transformers
from symport.io import make_folder, write_text
from symport.methods import GradientMatching, Start, comparable
from symport.params import Params
from symport.port import embedding_names, residual_groups
from symport.selection import SelectionProblem
from symport.spec import fix
from symport_recipes.ports._experiment import Ports, scenes
from symport_recipes.ports._page import OPTIONS_FILE, Share, read_options
from symport_recipes.ports._running import networks, problem_of, with_activity
from symport_recipes.ports._scene import Scene
from symport_recipes.ports._settings import RULES, SEEDS
from symport_recipes.runner import Experiment
from symport_recipes.setups import Bench

COUNT = 64
LENGTHS = (1.25, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Option:
    """How gradients are matched.

    Attributes:
        kind: FGMT or GMT.
        steps: T.
        batch: Examples in a gradient.
        normalize: Give each step the same weight.
        start: Where each matching starts.
        activity: Weight of the activations of the bases, as a number of steps.
        hold: Whether the residual stream is fixed.
    """

    kind: Callable[..., GradientMatching[Any]] = symport.FGMT
    steps: int = 8
    batch: int = COUNT
    normalize: bool = True
    start: Start = "previous"
    activity: float = 0.0
    hold: bool = False


OPTIONS: Mapping[str, Option] = {
    "FGMT as `symport port` has it": Option(),
    "4 steps": Option(steps=4),
    "16 steps": Option(steps=16),
    "not normalised": Option(normalize=False),
    "16 examples in a gradient": Option(batch=16),
    "each matching from the identity": Option(start="identity"),
    "residual stream held": Option(hold=True),
    "activations count as one step": Option(activity=1.0),
    "activations count as eight steps": Option(activity=8.0),
    "GMT": Option(kind=symport.GMT),
}


def shares(scene: Scene, option: Option, seed: int) -> Share:
    """Share of lift to the independent base at the best step and scale, and at the last step."""
    rules = RULES.model_copy(update={"steps": option.steps, "seed": seed})
    case = problem_of(scene, networks(scene, "independent", rules), rules, COUNT)
    if option.hold:
        groups = residual_groups(case.spec, embedding_names(case.model))
        case = replace(case, spec=fix(case.spec, groups, "the residual stream is fixed"))
    if option.activity:
        case = with_activity(case, option.activity)
    loss = _loss_on(case)
    found = symport.transfer(
        case.source,
        case.target_init,
        case.spec,
        _method(case, option),
        score=lambda params: -loss(params),
        scales=LENGTHS,
    ).candidates
    lift = loss(case.source[0]) - loss(case.source[-1])
    own = [c for c in found if c.step]
    last = next(c for c in own if c.step == option.steps and c.scale == 1)
    untouched = loss(case.target_init)
    best = max(comparable(c.score) for c in own)
    return (untouched + best) / lift, (untouched + comparable(last.score)) / lift


def _loss_on(case: SelectionProblem) -> Callable[[Params], float]:
    return lambda params: case.evaluate(params, case.held_out).loss


def _method(case: SelectionProblem, option: Option) -> GradientMatching[Any]:
    batches = [(b.inputs, b.labels) for b in case.training.parts(COUNT // option.batch)]
    gradient = case.gradient(batches)
    return option.kind(gradient, normalize=option.normalize, start=option.start, also=case.also)


@dataclass(frozen=True)
class Options(Experiment[tuple[str, int], Share]):
    """Every option with every draw of the examples."""

    seeds = SEEDS

    def cases(self, seeds: Sequence[int]) -> Sequence[tuple[str, int]]:
        """Every option, seed by seed."""
        return [(name, seed) for seed in seeds for name in OPTIONS]

    def measure(self, case: tuple[str, int], bench: Bench) -> Share:
        """Port by one option."""
        name, seed = case
        with quiet_transformers():
            scene = scenes("llama", bench.folder("transformers"))["llama"]
            return shares(scene, OPTIONS[name], seed)

    def read(self, folder: Path, case: tuple[str, int]) -> Share | None:
        """The entry of an option at the place of its seed."""
        name, seed = case
        done = read_options(folder).get(name, [])
        return done[seed] if seed < len(done) else None

    def keep(self, folder: Path, case: tuple[str, int], record: Share) -> None:
        """Write the entry; seeds are kept by their place, so none may be left out."""
        name, seed = case
        found = read_options(folder)
        done = found.setdefault(name, [])
        if seed > len(done):
            raise SettingsError(f"options: seed {seed} before seed {len(done)}; run that first")
        done[seed : seed + 1] = [record]
        make_folder((folder / OPTIONS_FILE).parent)
        write_text(folder / OPTIONS_FILE, json.dumps(found, indent=1))

    def publish(self, folder: Path) -> Sequence[Path]:
        """Write the page of all ports, which shows the options at its end."""
        return Ports("llama").publish(folder)
