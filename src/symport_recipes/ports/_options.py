"""Which options help gradient matching between independent transformers?

The small Llama, 64 examples. Share of lift on the reporting set, in %, at the
step and length that are best there, so that no choice adds its noise, and at the last step as it
is. A row differs from the first in what it names.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import symport
from symport.huggingface import quiet_transformers
from symport.io import write_text
from symport.methods import GradientMatching, Start, comparable
from symport.params import Params
from symport.port import embedding_names, residual_groups
from symport.selection import Contest
from symport.spec import fix
from symport_recipes.ports._llama import llama
from symport_recipes.ports._page import spread
from symport_recipes.ports._running import contest, networks, with_activity
from symport_recipes.ports._scene import Scene
from symport_recipes.ports._settings import RULES, SEEDS
from symport_recipes.runner import markdown

FILE = "options.json"
COUNT = 64
LENGTHS = (1.25, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Option:
    """How gradients are matched.

    Attributes:
        kind: FGMT or GMT.
        steps: T.
        batch: Examples in a gradient.
        normalize: Give each step the same say.
        start: Where each matching starts.
        activity: Activations of the bases count as so many steps.
        hold: Whether the residual stream stays in order.
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


def shares(scene: Scene, option: Option, seed: int) -> tuple[float, float]:
    """Share of lift to the independent base at the best step and length, and at the last step."""
    rules = RULES.model_copy(update={"steps": option.steps, "seed": seed})
    case = contest(scene, networks(scene, "independent", rules), rules, COUNT)
    if option.hold:
        groups = residual_groups(case.spec, embedding_names(case.model))
        case = replace(case, spec=fix(case.spec, groups, "the residual stream is fixed"))
    if option.activity:
        case = with_activity(case, option.activity)
    loss = _judge(case)
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


def _judge(case: Contest) -> Callable[[Params], float]:
    return lambda params: case.judge(params, case.reporting).loss


def _method(case: Contest, option: Option) -> GradientMatching[Any]:
    batches = [(b.inputs, b.labels) for b in case.working.parts(COUNT // option.batch)]
    gradient = case.gradient(batches)
    return option.kind(gradient, normalize=option.normalize, start=option.start, also=case.also)


def table(found: Mapping[str, list[tuple[float, float]]]) -> list[str]:
    """The lines of a table in Markdown."""
    rows = [
        [name, str(len(rows)), *(spread(list(side)) for side in zip(*rows, strict=True))]
        for name, rows in found.items()
    ]
    return markdown(["", "draws", "best step and length", "last step"], rows)


def main() -> None:
    """Run what has not been run; the page of `python -m symport_recipes.ports` shows it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--cache", type=Path, default=Path("runs/ports"))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of draws")
    given = parser.parse_args()
    file = given.out / "ports" / FILE
    found = json.loads(file.read_text()) if file.exists() else {}
    with quiet_transformers():
        scene = llama(given.cache)["llama"]
        for seed, (name, option) in product(range(given.seeds), OPTIONS.items()):
            done = found.setdefault(name, [])
            if len(done) <= seed:
                done.append(shares(scene, option, seed))
                write_text(file, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
