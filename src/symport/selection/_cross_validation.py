"""Choose the step and the length of a transfer by cross-validation over a few labels.

With few labels none can be spared for a selection set. Each fold is left out of the matching once
and scores every candidate; the candidate with the best mean is then taken from a transfer that
matches on all labels. So every label serves matching and choosing, and none is counted twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from symport.data import Fold, Labelled
from symport.errors import SettingsError
from symport.io import digest
from symport.methods import Candidate, Finish, Kind, Method, Problem, explore, worth
from symport.params import Params
from symport.progress import bar
from symport.spec import Permutation, PermutationSpec
from symport.trajectory import Trajectory

LENGTHS = (0.25, 0.5, 0.75, 1.25, 1.5, 2.0, 3.0)

Key: TypeAlias = tuple[Kind, int, float]
ScoreOn: TypeAlias = Callable[[Params, Labelled], float]


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation found.

    Attributes:
        choice: The best candidate; its score is the mean over all labels.
        candidates: All candidates with their scores.
        permutations: For each fold the permutations of its steps.
    """

    choice: Candidate
    candidates: tuple[Candidate, ...]
    permutations: tuple[tuple[Permutation, ...], ...] = field(compare=False, repr=False)


def cross_validate(
    source: Trajectory,
    target_init: Params,
    spec: PermutationSpec,
    make: Callable[[Labelled], Method],
    data: Labelled,
    *,
    folds: Sequence[Fold],
    score: ScoreOn,
    finish: Finish | None = None,
    lengths: Sequence[float] = LENGTHS,
    folder: str | Path | None = None,
    progress: bool = False,
) -> CrossValidation:
    """Score every candidate on labels that its matching has not seen.

    Args:
        source: The source's trajectory.
        target_init: The target initialization.
        spec: The symmetry of the network.
        make: Makes the method for the labels that one fold leaves.
        data: All labels at hand.
        folds: As `evaluate.stratified_folds` deals them.
        score: How good some parameters are on some labels, a mean; higher is better.
        finish: As for `transfer`.
        lengths: As for `transfer`.
        folder: Where to write the transfer of each fold, to go on there after an interruption.
        progress: Whether to show a progress bar.

    Raises:
        SettingsError: There are no folds.
        DataError: The labels do not fit the model.
        ParamsError: As `transfer`.
        FileError: As `transfer`.
    """
    if not folds:
        raise SettingsError("there are no folds: pass at least two")
    totals: dict[Key, float] = {}
    permutations: list[tuple[Permutation, ...]] = []
    problem = Problem(source, target_init, spec)
    with bar("cross-validation", len(folds), show=progress) as advance:
        for fold in folds:
            known, left_out = data.take(fold.train), data.take(fold.held_out)
            found = explore(
                problem,
                make(known),
                score=lambda params, part=left_out: score(params, part),
                finish=finish,
                lengths=lengths,
                folder=None if folder is None else Path(folder) / fold_name(known, left_out),
            )
            permutations.append(found.permutations)
            for candidate in found.candidates:
                key = (candidate.kind, candidate.step, candidate.length)
                share = (candidate.score or 0.0) * len(left_out) / len(data)
                totals[key] = totals.get(key, 0.0) + share
            advance("")
    candidates = [Candidate(kind, step, length, s) for (kind, step, length), s in totals.items()]
    return CrossValidation(_best(candidates), tuple(candidates), tuple(permutations))


def fold_name(known: Labelled, left_out: Labelled) -> str:
    """A folder's name that changes with the examples, since scores leave no other trace of them."""
    parts = {"known": known, "left out": left_out}
    tensors = {f"{name} inputs": part.inputs for name, part in parts.items()}
    tensors |= {f"{name} labels": part.labels for name, part in parts.items()}
    return f"fold-{digest(tensors)[:12]}"


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """Among equals the candidate nearest to what the method says: the last step, length 1."""

    def rank(candidate: Candidate) -> tuple[float, bool, int, float]:
        is_method = candidate.kind == "method"
        return worth(candidate.score), is_method, candidate.step, -abs(candidate.length - 1)

    return max(candidates, key=rank)
