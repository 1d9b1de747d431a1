"""Carry a training run over to another initialization: the one loop under every method."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from symport.distributed import world
from symport.errors import ParamsError, SettingsError
from symport.io import save_tensors, write_text
from symport.matching import is_moved
from symport.memory import give_back
from symport.methods._base import Identity, Method, Problem, State
from symport.methods._journal import Journal, StepRecord
from symport.params import Params, check_alike, check_finite, takes_part
from symport.progress import bar
from symport.spec import Permutation, PermutationSpec
from symport.trajectory import Trajectory

Score: TypeAlias = Callable[[Params], float]
Finish: TypeAlias = Callable[[Params], Params]
Kind: TypeAlias = Literal["method", "identity", "untouched"]


@dataclass(frozen=True)
class Candidate:
    """One set of parameters that a transfer can end in.

    Attributes:
        kind: Found by the method, by the identity, or the target initialization untouched.
        step: How far along the trajectory, from 0 to T.
        length: Factor on the displacement; 1 is what the method says.
        score: Its score on the selection set, higher is better; None without a score.
    """

    kind: Kind
    step: int
    length: float = 1.0
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Explored:
    """The steps of a transfer and what they are worth; parameters follow from permutations.

    Attributes:
        permutations: The permutation of each step, from the first.
        candidates: All candidates that were scored; without a score the last step.
        history: One record for each step.
    """

    permutations: tuple[Permutation, ...]
    candidates: tuple[Candidate, ...]
    history: tuple[StepRecord, ...]

    def permutation(self, candidate: Candidate, spec: PermutationSpec) -> Permutation:
        """The permutation behind a candidate."""
        if candidate.kind == "method":
            return self.permutations[candidate.step - 1]
        return Permutation.identity(spec)


@dataclass(frozen=True, eq=False)
class TransferResult:
    """What a transfer found.

    Attributes:
        params: The chosen parameters, after `finish`.
        permutation: The permutation behind them.
        choice: Which candidate they are.
        candidates: All candidates that were scored, or the one that was taken without a score.
        history: One record for each step.
    """

    params: dict[str, Tensor]
    permutation: Permutation
    choice: Candidate
    candidates: tuple[Candidate, ...]
    history: tuple[StepRecord, ...]

    @property
    def evaluations(self) -> int:
        """Gradient evaluations of all steps."""
        return sum(record.evaluations for record in self.history)

    def save(self, folder: str | Path) -> None:
        """Write `params.safetensors`, `permutation.safetensors`, `history.jsonl`, `result.json`.

        Raises:
            FileError: The folder cannot be written; no file is left half-written.
        """
        folder = Path(folder)
        save_tensors(folder / "permutation.safetensors", self.permutation.indices)
        lines = [json.dumps(asdict(record)) for record in self.history]
        write_text(folder / "history.jsonl", "\n".join(lines) + "\n")
        summary = {
            "choice": asdict(self.choice),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "evaluations": self.evaluations,
        }
        write_text(folder / "result.json", json.dumps(summary, indent=1) + "\n")
        save_tensors(folder / "params.safetensors", self.params)


def transfer(
    source: Trajectory,
    target_init: Params,
    spec: PermutationSpec,
    method: Method,
    *,
    score: Score | None = None,
    finish: Finish | None = None,
    lengths: Sequence[float] = (),
    take: Candidate | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> TransferResult:
    """Work out what the source's training would have done to another initialization.

    Step s takes the permutation π that the method finds, and lays θ₂ˢ = θ₂⁰ + π(θ₁ˢ − θ₁⁰)
    (Algorithms 1 and 2).

    Args:
        source: The source's trajectory θ₁⁰ … θ₁ᵀ, recorded or linear.
        target_init: The target initialization θ₂⁰, a state dict. Never modified.
        spec: The symmetry of the network.
        method: Finds the permutations: `FGMT`, `GMT`, or another.
        score: How good some parameters are, higher is better, judged on a selection set that is
            neither the test set nor, if labels allow, the matching batches. The best of all
            steps wins; the identity's steps and the untouched target always take part. Without
            it the last step is returned.
        finish: Applied to parameters before they are scored or returned, for instance
            `lambda params: batchnorm.reestimate(model, params, batches)`.
        lengths: Further candidates: the last permutation with the displacement times these.
        take: Return this candidate, chosen beforehand, instead of the best.
        folder: Where to write every step as it is done. A transfer that was interrupted goes on
            from there, with the same bits as if it had not been.
        progress: Whether to show a progress bar.

    Returns:
        The chosen parameters and how they were reached.

    Raises:
        ParamsError: The target does not fit the source, tensors hold NaN or infinity, or weights
            are integers.
        SpecError: The spec does not fit the network.
        FileError: The folder cannot be written, or holds another run.
        SettingsError: `lengths` without `score`, `take` lies outside of the trajectory, or a
            folder is given to joined processes.
    """
    _check_taken(take, source.steps)
    problem = Problem(source, target_init, spec)
    found = explore(
        problem,
        method,
        score=score,
        finish=finish,
        lengths=lengths,
        folder=folder,
        progress=progress,
    )
    candidates = (take,) if take and score is None else found.candidates
    choice = take or max(candidates, key=_rank)
    permutation = found.permutation(choice, spec)
    result = TransferResult(
        _Judge(problem, score, finish or dict).finished(choice, permutation),
        permutation,
        choice,
        candidates,
        found.history,
    )
    if folder is not None:
        result.save(folder)
    return result


def explore(
    problem: Problem,
    method: Method,
    *,
    score: Score | None = None,
    finish: Finish | None = None,
    lengths: Sequence[float] = (),
    upto: int | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Explored:
    """Find the permutations of a transfer and score its candidates, without keeping parameters.

    Args:
        problem: What is to be transferred where.
        method: As for `transfer`.
        score: As for `transfer`.
        finish: As for `transfer`.
        lengths: As for `transfer`.
        upto: The last step that is wanted, for instance that of a candidate chosen beforehand; all
            if None.
        folder: As for `transfer`; what it keeps are permutations and scores.
        progress: Whether to show a progress bar.

    Raises:
        SymportError: As `transfer`.
    """
    check_fit(problem.source, problem.target_init, problem.spec)
    _check_lengths(lengths, score)
    if folder is not None and world() > 1:
        raise SettingsError(
            "joined processes cannot resume: pass no folder, save the result at rank 0"
        )
    judge = _Judge(problem, score, finish or dict)
    journal = Journal(folder, _identify(problem, method)) if folder is not None else None
    last = problem.source.steps if upto is None else upto
    walk = _walk(problem, method, judge, journal, last, progress=progress)
    candidates = judge.candidates(walk, method, lengths)
    if journal is not None:
        journal.tidy()
    return Explored(tuple(walk.permutations), tuple(candidates), tuple(walk.records))


@dataclass(frozen=True)
class _Walk:
    """The permutation and the record of each step done."""

    permutations: list[Permutation]
    records: list[StepRecord]


@dataclass(frozen=True)
class _Judge:
    """Scores candidates."""

    problem: Problem
    score: Score | None
    finish: Finish

    def finished(self, candidate: Candidate, permutation: Permutation) -> dict[str, Tensor]:
        """The parameters of a candidate, ready for use."""
        placed = self.problem.place(permutation, candidate.step, candidate.length)
        params = dict(self.finish(placed))
        check_finite(params, f"the target after step {candidate.step}")
        return params

    def of(self, candidate: Candidate, permutation: Permutation) -> float | None:
        """The score of a candidate."""
        return (
            None if self.score is None else float(self.score(self.finished(candidate, permutation)))
        )

    def candidates(self, walk: _Walk, method: Method, lengths: Sequence[float]) -> list[Candidate]:
        """Everything that competes."""
        last = len(walk.records)
        if self.score is None:
            return [Candidate("method", last)]
        identity = Permutation.identity(self.problem.spec)
        untouched = Candidate("untouched", 0)
        result = [Candidate("untouched", 0, 1.0, self.of(untouched, identity))]
        for record in walk.records:
            result.append(Candidate("method", record.step, 1.0, record.score))
            if not isinstance(method, Identity):
                result.append(Candidate("identity", record.step, 1.0, record.identity_score))
        for length in lengths:
            stretched = Candidate("method", last, length)
            value = self.of(stretched, walk.permutations[-1])
            result.append(Candidate("method", last, length, value))
        return result


def _walk(
    problem: Problem,
    method: Method,
    judge: _Judge,
    journal: Journal | None,
    steps: int,
    *,
    progress: bool,
) -> _Walk:
    """Do all steps that the journal does not have yet."""
    records = [] if journal is None else journal.records
    permutations = [] if journal is None else [journal.permutation(r.step) for r in records]
    walk, done = _Walk(permutations, list(records)), len(records)
    if done >= steps:
        return walk
    state = _state_after(walk, problem, method)
    with bar(method.name, steps, show=progress, done=done) as advance:
        for step in range(done + 1, steps + 1):
            state, record = _step(problem, method, judge, state, step)
            if journal is not None:
                journal.save_permutation(step, state.permutation)
                journal.commit(record)
            walk.permutations.append(state.permutation)
            walk.records.append(record)
            give_back()
            advance("" if record.score is None else f"score {record.score:.4f}")
    return walk


def _state_after(walk: _Walk, problem: Problem, method: Method) -> State:
    """What the method knows after the steps done."""
    if not walk.records:
        return method.init(problem)
    pairs = zip(walk.permutations, walk.records, strict=True)
    return method.restore(problem, [State(p, record.objective) for p, record in pairs])


def _step(
    problem: Problem, method: Method, judge: _Judge, state: State, step: int
) -> tuple[State, StepRecord]:
    begun, evaluations, seconds = time.perf_counter(), method.evaluations, method.gradient_seconds
    state = method.step(problem, state, step)
    score = judge.of(Candidate("method", step), state.permutation)
    identity = Permutation.identity(problem.spec)
    is_same = state.permutation.equal(identity)  # the same parameters need no second look
    record = StepRecord(
        step,
        state.objective,
        state.permutation.moved(),
        score,
        score if is_same else judge.of(Candidate("identity", step), identity),
        method.evaluations - evaluations,
        method.gradient_seconds - seconds,
        time.perf_counter() - begun,
    )
    return state, record


def _rank(candidate: Candidate) -> tuple[float, bool, int]:
    """The best score; among equals the method's, and of those the last step."""
    return worth(candidate.score), candidate.kind == "method", candidate.step


def worth(score: float | None) -> float:
    """A score to compare by: none, or NaN, is worse than any."""
    return -math.inf if score is None or math.isnan(score) else score


def check_fit(source: Trajectory, target_init: Params, spec: PermutationSpec) -> None:
    """Raise unless the source, the target and the spec belong together.

    Raises:
        ParamsError: The target does not fit the source, holds NaN or infinity, or has integer
            weights.
        SpecError: The spec does not fit the target.
    """
    start = source[0]
    shared = {name: target_init[name] for name in start if name in target_init}
    check_alike(shared, start, "the target initialization", "the source")
    spec.check(target_init)
    check_finite(target_init, "the target initialization")
    for name, tensor in target_init.items():
        if not takes_part(tensor) and name not in spec.buffers and is_moved(spec, name):
            raise ParamsError(
                f"{name}: weights of {tensor.dtype} cannot be transferred; convert them to a "
                "floating-point dtype first, or name the tensor among the spec's buffers"
            )


def _check_lengths(lengths: Sequence[float], score: Score | None) -> None:
    if lengths and score is None:
        raise SettingsError("lengths are candidates for a score to choose among: pass score=")
    if odd := [length for length in lengths if not 0 < length < math.inf]:
        raise SettingsError(f"a length must be positive and finite, not {odd[0]}")


def _check_taken(take: Candidate | None, steps: int) -> None:
    if take is None:
        return
    if not (1 if take.kind == "method" else 0) <= take.step <= steps:
        raise SettingsError(f"there is no {take.kind} candidate at step {take.step} of {steps}")


def _identify(problem: Problem, method: Method) -> dict[str, Any]:
    return {"method": method.name, "settings": method.settings(), **problem.fingerprint}
