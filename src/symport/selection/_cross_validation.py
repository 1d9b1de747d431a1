"""Choose the step and the scale of a transfer by cross-validation over a few labels.

With few labels a separate validation set is too costly. Each fold is left out of the matching once
and scores every candidate; the candidate with the best mean is then taken from a transfer that
matches on all labels. So every label is used for matching and for the choice, and each scores once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from symport.data import Fold, Labelled
from symport.errors import SettingsError
from symport.io import digest
from symport.methods import Candidate, Finish, Identity, Method, Problem, comparable, explore
from symport.params import Params
from symport.progress import bar
from symport.spec import Permutation, PermutationSpec
from symport.trajectory import Trajectory

Kind: TypeAlias = Literal["method", "identity", "untouched"]
Key: TypeAlias = tuple[Kind, int, float]
ScoreOn: TypeAlias = Callable[[Params, Labelled], float]


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate of a cross-validation.

    Attributes:
        kind: Reached by the method, by the identity, or the target initialization untouched.
        step: How far along the trajectory, from 0 to T.
        scale: Factor on the displacement.
        score: Its mean score over all labels; None where nothing was scored.

    Example:
        >>> ScoredCandidate("identity", 4, score=-0.5).candidate
        Candidate(step=4, scale=1.0, score=-0.5)
    """

    kind: Kind
    step: int
    scale: float = 1.0
    score: float | None = None

    @property
    def candidate(self) -> Candidate:
        """Its step, scale and score, without the kind."""
        return Candidate(self.step, self.scale, self.score)


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation found.

    Attributes:
        choice: The best candidate; its score is the mean over all labels.
        candidates: All candidates with their scores.
        permutations: For each fold the permutations of its steps.
    """

    choice: ScoredCandidate
    candidates: tuple[ScoredCandidate, ...]
    permutations: tuple[tuple[Permutation, ...], ...] = field(compare=False, repr=False)


def cross_validate(
    source: Trajectory,
    target_init: Params,
    spec: PermutationSpec,
    make: Callable[[Labelled], Method[Any]],
    data: Labelled,
    *,
    folds: Sequence[Fold],
    score: ScoreOn,
    finish: Finish | None = None,
    scales: Sequence[float] = (),
    folder: str | Path | None = None,
    progress: bool = False,
) -> CrossValidation:
    """Score every candidate on labels that its matching has not seen.

    Args:
        source: The source's trajectory.
        target_init: The target initialization.
        spec: The symmetry of the network.
        make: Makes the method, given the examples outside one fold.
        data: All labels at hand.
        folds: Such as `symport.data.stratified_folds` returns.
        score: How good some parameters are on some labels, a mean; higher is better.
        finish: Applied to transferred parameters before they are scored, to re-estimate
            BatchNorm. The untouched target is scored as it is.
        scales: Further candidates: the last permutation with the displacement times these.
        folder: Where to write the transfer of each fold, to resume after an interruption.
        progress: Whether to show a progress bar.

    Raises:
        SettingsError: There are no folds.
        DataError: The labels do not fit the model.
        ParamsError: The target does not fit the source, or a tensor holds NaN or infinity.
        SpecError: The spec does not fit the network.
        FileError: The folder cannot be written, or holds another run.

    Example:
        With the problem that the example of `select` makes:

        >>> from symport.selection import folds_of
        >>> def score(params, part):
        ...     return -problem.evaluate(params, part).loss
        >>> found = cross_validate(
        ...     problem.source, problem.target_init, problem.spec, lambda part: Identity(),
        ...     problem.training, folds=folds_of(problem.training, 2, seed=0), score=score)
        >>> found.choice.step, found.choice.score
        (2, 0.0)
    """
    if not folds:
        raise SettingsError("there are no folds: pass at least two")
    totals: dict[Key, float] = {}
    permutations: list[tuple[Permutation, ...]] = []
    problem, identity = Problem(source, target_init, spec), Permutation.identity(spec)
    with bar("cross-validation", len(folds), show=progress) as advance:
        for fold in folds:
            known, left_out = data.take(fold.train), data.take(fold.held_out)
            place = None if folder is None else Path(folder) / fold_name(known, left_out)
            fold_score = partial(_on, score, left_out)
            method = make(known)
            found = explore(
                problem, method, score=fold_score, finish=finish, scales=scales, folder=place
            )
            permutations.append(found.permutations)
            scored: dict[Key, float | None] = {
                ("untouched", 0, 1.0): fold_score(problem.place(identity, 0)),
                **{("method", c.step, c.scale): c.score for c in found.candidates},
            }
            if not any(p.moved() for p in found.permutations):
                beside = found
            else:
                beside = explore(
                    problem,
                    Identity(),
                    score=fold_score,
                    finish=finish,
                    folder=None if place is None else place.with_name(f"{place.name}-identity"),
                )
            if not isinstance(method, Identity):
                steps = (c for c in beside.candidates if c.scale == 1)
                scored |= {("identity", c.step, c.scale): c.score for c in steps}
            for key, value in scored.items():
                share = (value or 0.0) * len(left_out) / len(data)
                totals[key] = totals.get(key, 0.0) + share
            advance("")
    candidates = [ScoredCandidate(*key, total) for key, total in sorted(totals.items(), key=_order)]
    return CrossValidation(_best(candidates), tuple(candidates), tuple(permutations))


def _on(score: ScoreOn, part: Labelled, params: Params) -> float:
    return score(params, part)


def _order(item: tuple[Key, float]) -> tuple[bool, int, bool]:
    """Step by step, the method before the identity; other scales last."""
    kind, step, scale = item[0]
    return scale != 1, step, kind == "identity"


def fold_name(known: Labelled, left_out: Labelled) -> str:
    """The name of a fold's folder, which changes with the examples: no other file records them."""
    parts = {"known": known, "left out": left_out}
    tensors = {f"{name} inputs": part.inputs for name, part in parts.items()}
    tensors |= {f"{name} labels": part.labels for name, part in parts.items()}
    return f"fold-{digest(tensors)[:12]}"


def _best(candidates: Sequence[ScoredCandidate]) -> ScoredCandidate:
    """The best score; among equals the method, the latest step, and the scale nearest to 1."""

    def rank(candidate: ScoredCandidate) -> tuple[float, bool, int, float]:
        is_method = candidate.kind == "method"
        return comparable(candidate.score), is_method, candidate.step, -abs(candidate.scale - 1)

    return max(candidates, key=rank)
