"""The loss between a trained target, a transferred and trained one, and the source (Figure 7)."""

from dataclasses import asdict, dataclass
from typing import Any

from symport.data import Labelled
from symport.matching import match, weights
from symport.model import barrier, evaluate, plane
from symport.params import Params
from symport.spec import permute
from symport_recipes.experiments._later import after, best_start
from symport_recipes.runner import Found, PairExperiment
from symport_recipes.setups import Bench, Pair, Scene, draw, network
from symport_recipes.training import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Basins(PairExperiment):
    """Barriers from the trained target to three others, and the plane through three.

    Attributes:
        scene: What is transferred.
        training: Of the transferred parameters.
        points: Along each line, and along each axis of the plane.
        examples: Of the validation set, for each loss.
    """

    scene: Scene
    training: TrainSettings
    points: int = 11
    examples: int = 500

    def pair(self, seed: int, bench: Bench) -> Found:
        """Train from the end of FGMT, permute the source by weight matching, measure barriers."""
        at = draw(self.scene, seed, bench)
        target = network(self.scene, self.scene.target_seed(seed), bench, scored=True).final
        begin = best_start(at, "fgmt", target)
        transferred = after(
            self.scene, begin, self.training, self.scene.target_seed(seed), bench
        ).final
        permuted = _permuted(at, target)
        whole = at.halves.reporting
        seen = Labelled(whole.inputs[: self.examples], whole.labels[: self.examples])

        def loss(params: Params) -> float:
            return evaluate(at.model, at.finish(params), seen.inputs, seen.labels).nll

        others = {
            "fgmt, trained on": transferred,
            "permuted source": permuted,
            "source": at.source.final,
        }
        found = {
            name: barrier(loss, target, other, points=self.points) for name, other in others.items()
        }
        return Found(
            x=list(next(iter(found.values())).curve.fractions),
            curves={name: rise.curve.values for name, rise in found.items()},
            shares={
                "target": at.accuracy(target),
                **{n: at.accuracy(p) for n, p in others.items()},
            },
            numbers={f"barrier to {name}": rise.value for name, rise in found.items()},
            plane=plane(loss, (target, transferred, permuted), points=self.points),
        )

    def summary(self) -> dict[str, Any]:
        """The scene's, the later training and the resolution."""
        own = {"points": self.points, "examples": self.examples}
        return {**self.scene.summary(), "later": asdict(self.training), **own}


def _permuted(at: Pair, target: Params) -> dict[str, Any]:
    """The trained source, permuted by weight matching to the trained target."""
    spec = at.problem().spec
    found = match(spec, weights(target, at.source.final, spec))
    return permute(at.source.final, spec, found.permutation)
