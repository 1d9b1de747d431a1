"""Transfer a training run to another initialization: the one loop that drives every method."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from symport.distributed import world_size
from symport.errors import ParamsError, SettingsError
from symport.memory import release_memory
from symport.methods._base import Memory, Method, Problem, State
from symport.methods._journal import Journal, StepRecord
from symport.methods._result import Candidate, Explored, TransferResult, comparable
from symport.params import Params, check_finite, check_same_structure, is_inexact
from symport.progress import bar
from symport.spec import Permutation, PermutationSpec
from symport.trajectory import Trajectory

Score: TypeAlias = Callable[[Params], float]
Finish: TypeAlias = Callable[[Params], Params]


def transfer(
    source: Trajectory,
    target_init: Params,
    spec: PermutationSpec,
    method: Method[Memory],
    *,
    score: Score | None = None,
    finish: Finish | None = None,
    scales: Sequence[float] = (),
    choice: Candidate | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> TransferResult:
    """Estimate where the source's training would have taken another initialization.

    Step s takes the permutation π that the method finds, and sets θ₂ˢ = θ₂⁰ + π(θ₁ˢ − θ₁⁰)
    (Algorithms 1 and 2).

    Args:
        source: The source's trajectory θ₁⁰ … θ₁ᵀ, recorded or linear.
        target_init: The target initialization θ₂⁰, a state dict. Never modified.
        spec: The symmetry of the network.
        method: Finds the permutations: `FGMT`, `GMT`, or another.
        score: The score of given parameters, higher is better, computed on a selection set: not the
            test set and, with enough labels, not the matching batches. The best of the method's
            steps, the scales and the untouched target is returned; among equals the last step.
            Without a score the last step is returned. To compare with the identity, call
            `transfer` with `Identity()` too.
        finish: Applied to parameters before they are scored or returned, for instance
            `lambda params: reestimate(model, params, batches)`.
        scales: Further candidates: the last permutation with the displacement times these.
        choice: Return this candidate, chosen beforehand, instead of the best.
        folder: Where to write every step as it is done. An interrupted transfer resumes from there,
            with the same bits as without the interruption.
        progress: Whether to show a progress bar.

    Returns:
        The chosen parameters and how they were reached.

    Raises:
        ParamsError: The target does not fit the source, tensors hold NaN or infinity, or weights
            are integers.
        SpecError: The spec does not fit the network.
        FileError: The folder cannot be written, or holds another run.
        SettingsError: `scales` without `score`, `choice` lies outside of the trajectory, or a
            folder is given to joined processes.

    Example:
        >>> import torch
        >>> from symport.methods import WeightMatching
        >>> start = {"w": torch.tensor([1.0, 2.0])}
        >>> source = Trajectory.linear(start, {"w": torch.tensor([1.0, 5.0])}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> target_init = {"w": torch.tensor([2.0, 1.0])}
        >>> transfer(source, target_init, spec, WeightMatching()).params
        {'w': tensor([5., 1.])}
    """
    if choice is not None:
        _check_step(choice.step, source.steps)
    problem = Problem(source, target_init, spec)
    found = explore(
        problem,
        method,
        score=score,
        finish=finish,
        scales=scales,
        folder=folder,
        progress=progress,
    )
    scorer = _Scorer(problem, score, finish or dict)
    identity = Permutation.identity(spec)
    candidates = found.candidates
    if score is not None:
        candidates = (scorer.scored(Candidate(0), identity), *candidates)
    elif choice is not None:
        candidates = (choice,)
    choice = choice or max(candidates, key=lambda c: (comparable(c.score), c.step))
    permutation = found.permutations[choice.step - 1] if choice.step else identity
    params = scorer.finished(choice, permutation)
    result = TransferResult(params, permutation, choice, candidates, found.history)
    if folder is not None:
        result.save(folder)
    return result


def explore(
    problem: Problem,
    method: Method[Memory],
    *,
    score: Score | None = None,
    finish: Finish | None = None,
    scales: Sequence[float] = (),
    last_step: int | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Explored:
    """Find the permutations of a method and score its steps, without keeping parameters.

    Only the method's own steps and scales are scored: run `Identity()` to compare with it.

    Args:
        problem: The source, the target and their symmetry.
        method: Finds the permutations.
        score: The score of given parameters, higher is better.
        finish: Applied to parameters before they are scored.
        scales: Further candidates: the last permutation with the displacement times these.
        last_step: The last step that is wanted, for instance that of a candidate chosen
            beforehand; all if None.
        folder: Where to write every step as it is done, and from where to resume; it holds
            permutations and scores.
        progress: Whether to show a progress bar.

    Raises:
        ParamsError: The target does not fit the source, tensors hold NaN or infinity, or weights
            are integers.
        SpecError: The spec does not fit the network.
        FileError: The folder cannot be written, or holds another run.
        SettingsError: `scales` without `score`, `last_step` lies outside of the trajectory, or a
            folder is given to joined processes.

    Example:
        >>> import torch
        >>> from symport.methods import Identity
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 2)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> problem = Problem(source, {"w": torch.zeros(2)}, spec)
        >>> found = explore(problem, Identity(), score=lambda p: float(p["w"].sum()), scales=[3.0])
        >>> [(candidate.step, candidate.scale, candidate.score) for candidate in found.candidates]
        [(1, 1.0, 1.0), (2, 1.0, 2.0), (2, 3.0, 6.0)]
    """
    check_fit(problem.source, problem.target_init, problem.spec)
    _check_scales(scales, score)
    last = problem.source.steps if last_step is None else last_step
    _check_step(last, problem.source.steps)
    if folder is not None and world_size() > 1:
        raise SettingsError(
            "joined processes cannot resume: pass no folder, and save the result at rank 0"
        )
    scorer = _Scorer(problem, score, finish or dict)
    journal = Journal(folder, _run_of(problem, method)) if folder is not None else None
    steps = _take_steps(problem, method, scorer, journal, last, progress=progress)
    candidates = scorer.candidates(steps, scales)
    if journal is not None:
        journal.tidy()
    return Explored(tuple(steps.permutations), tuple(candidates), tuple(steps.records))


@dataclass(frozen=True)
class _Steps:
    """The permutation and the record of each step done."""

    permutations: list[Permutation]
    records: list[StepRecord]


@dataclass(frozen=True)
class _Scorer:
    """Makes the parameters of candidates and scores them."""

    problem: Problem
    score: Score | None
    finish: Finish

    def finished(self, candidate: Candidate, permutation: Permutation) -> dict[str, Tensor]:
        """The parameters of a candidate, ready for use."""
        placed = self.problem.place(permutation, candidate.step, candidate.scale)
        params = dict(self.finish(placed))
        check_finite(params, f"the target after step {candidate.step}")
        return params

    def scored(self, candidate: Candidate, permutation: Permutation) -> Candidate:
        """A candidate with its score, if there is one."""
        if self.score is None:
            return candidate
        return replace(candidate, score=float(self.score(self.finished(candidate, permutation))))

    def candidates(self, steps: _Steps, scales: Sequence[float]) -> list[Candidate]:
        """Every step and every scale of the last one; without a score the last step."""
        last = len(steps.records)
        if self.score is None:
            return [Candidate(last)]
        own = [Candidate(record.step, 1.0, record.score) for record in steps.records]
        return own + [self.scored(Candidate(last, α), steps.permutations[-1]) for α in scales]


def _take_steps(
    problem: Problem,
    method: Method[Memory],
    scorer: _Scorer,
    journal: Journal | None,
    last: int,
    *,
    progress: bool,
) -> _Steps:
    """Take all steps that are not in the journal yet."""
    records = [] if journal is None else journal.records
    permutations = [] if journal is None else [journal.permutation(r.step) for r in records]
    steps, done = _Steps(permutations, list(records)), len(records)
    if done >= last:
        return steps
    state = _state_after(steps, problem, method)
    with bar(method.name, last, show=progress, done=done) as advance:
        for step in range(done + 1, last + 1):
            begun = time.perf_counter()
            state = method.step(problem, state, step)
            record = _record(state, scorer.scored(Candidate(step), state.permutation), begun)
            if journal is not None:
                journal.save_permutation(step, state.permutation)
                journal.commit(record)
            steps.permutations.append(state.permutation)
            steps.records.append(record)
            release_memory()
            advance("" if record.score is None else f"score {record.score:.4f}")
    return steps


def _state_after(steps: _Steps, problem: Problem, method: Method[Memory]) -> State[Memory]:
    """The state of the method after the steps done."""
    if not steps.records:
        return method.init(problem)
    pairs = zip(steps.permutations, steps.records, strict=True)
    done: list[State[None]] = [State(p, record.objective) for p, record in pairs]
    return method.restore(problem, done)


def _record(state: State[Memory], candidate: Candidate, begun: float) -> StepRecord:
    return StepRecord(
        candidate.step,
        state.objective,
        state.permutation.moved(),
        candidate.score,
        state.cost.evaluations,
        state.cost.seconds,
        time.perf_counter() - begun,
    )


def check_fit(source: Trajectory, target_init: Params, spec: PermutationSpec) -> None:
    """Check that the source, the target and the spec belong together.

    Args:
        source: The source's trajectory.
        target_init: The target initialization.
        spec: The symmetry of the network.

    Raises:
        ParamsError: The target does not fit the source, holds NaN or infinity, or has integer
            weights.
        SpecError: The spec does not fit the target.

    Example:
        >>> import torch
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 1)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> check_fit(source, {"w": torch.tensor([0.0, torch.nan])}, spec)
        Traceback (most recent call last):
            ...
        symport.errors.ParamsError: w: 1 of 2 values of the target initialization are NaN or inf
    """
    start = source[0]
    shared = {name: target_init[name] for name in start if name in target_init}
    check_same_structure(shared, start, "the target initialization", "the source")
    spec.check(target_init)
    check_finite(target_init, "the target initialization")
    for name, tensor in target_init.items():
        if spec.moves(name) and not is_inexact(tensor):
            raise ParamsError(
                f"{name}: weights of {tensor.dtype} cannot be transferred; convert them to a "
                "floating-point dtype first, or name the tensor among the spec's buffers"
            )


def _check_scales(scales: Sequence[float], score: Score | None) -> None:
    if scales and score is None:
        raise SettingsError("scales are candidates among which a score selects; pass score=")
    if odd := [scale for scale in scales if not 0 < scale < math.inf]:
        raise SettingsError(f"a scale must be positive and finite, not {odd[0]}")


def _check_step(step: int, last: int) -> None:
    if not 0 <= step <= last:
        raise SettingsError(f"there is no step {step}: the trajectory has steps 0 to {last}")


def _run_of(problem: Problem, method: Method[Memory]) -> dict[str, Any]:
    return {"method": method.name, "settings": method.settings(), **problem.fingerprint}
