"""Which way of using a source and a few examples is best on a target?

The training examples match, choose and train, all by cross-validation; those held out only report.
This holds for any network and any source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from symport.data import Fold, Labelled, stratified_folds
from symport.methods import Available, Method, Problem, StepRecord, explore, make_method
from symport.params import Params
from symport.progress import bar
from symport.selection._candidates import CandidateName, Plan, best_of_kind, least_loss
from symport.selection._cross_validation import Kind, ScoredCandidate, cross_validate, fold_name
from symport.selection._early_stopping import TrainingRules, Trial, choose_training, train
from symport.selection._problem import Evaluated, SelectionProblem, Terms
from symport.settings import Rules
from symport.spec import Permutation


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a selection found.

    Attributes:
        plans: How each candidate was reached.
        evaluated: The losses of each candidate on the held-out examples.
        source_start: Those of the source's start, on its own network.
        source_end: Those of the source's end, on its own network.
        pick: The candidate of least loss in cross-validation.
        tensors: The pick's tensors, as `SelectionProblem.parameterization` keeps them.
        permutation: The pick's permutation.
        units_moved: The share of units that the method moves, in [0, 1].
        scored: Every step and scale of cross-validation, `score` being minus the mean loss.
        history: The steps of the method on all training examples; empty if it has none.
        training_examples: Number of examples that matched, chose and trained.
        terms: What the networks are called where this is printed.

    Example:
        The one that the example of `select` finds:

        >>> outcome.pick, outcome.plans["identity"].step, outcome.held_out_examples
        ('identity', 2, 8)
    """

    plans: Mapping[CandidateName, Plan]
    evaluated: Mapping[CandidateName, Evaluated]
    source_start: Evaluated
    source_end: Evaluated
    pick: CandidateName
    tensors: Params
    permutation: Permutation
    units_moved: float
    scored: Sequence[ScoredCandidate]
    history: Sequence[StepRecord]
    training_examples: int
    terms: Terms = field(default_factory=Terms)

    @property
    def held_out_examples(self) -> int:
        """Number of examples that only report."""
        return len(self.source_end.losses)


def select(
    problem: SelectionProblem,
    rules: Rules,
    *,
    folder: Path | None,
    given: Permutation | None = None,
    progress: bool = False,
) -> Outcome:
    """Reach every candidate, pick the best by cross-validation, and report on held-out examples.

    The candidates are the untouched target; the identity and the method's transfer, each at its
    best step and scale; direct training; and the better of the two transfers, then direct training.
    The learning rate and the number of steps of direct training are chosen with the same folds.

    Args:
        problem: The networks and the examples.
        rules: How; with `folds=0`, or one example, the last step of the method is taken and
            nothing is trained.
        folder: Where intermediate results are kept; the same call resumes there after an
            interruption. None keeps none, as joined processes need.
        given: A permutation, to be used in place of gradient matching.
        progress: Whether to show progress bars.

    Raises:
        DataError: The model or the loss fails on the examples.
        ParamsError: The target does not fit the source, or a tensor holds NaN or infinity.
        SpecError: The spec does not fit the network.
        FileError: The folder cannot be written, or holds another run.
        SettingsError: The loss does not return one value for each example.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from symport.selection import Task, WholeWeights
        >>> from symport.spec import PermutationSpec
        >>> from symport.trajectory import Trajectory
        >>> start, end = {"weight": torch.zeros(1, 1)}, {"weight": torch.ones(1, 1)}
        >>> source = Trajectory.linear(start, end, steps=2)
        >>> spec = PermutationSpec.parse({"weight": ". ."}, start)
        >>> def errors(outputs, labels):
        ...     return (outputs - labels)[:, 0] ** 2
        >>> data = Labelled(torch.ones(8, 1), torch.ones(8, 1))
        >>> problem = SelectionProblem(
        ...     nn.Linear(1, 1, bias=False), Task(lambda inputs: inputs, errors), source, start,
        ...     spec, WholeWeights(start, source.displacement(2), spec), data, data)
        >>> found = select(problem, Rules(steps=2, folds=2, direct_steps=2), folder=None)
        >>> found.pick, found.evaluated["identity"].loss
        ('identity', 0.0)
    """
    run = _Run(problem, rules, folder, given, progress=progress)
    problem.evaluate(problem.target_init, problem.held_out.take(torch.arange(1)))  # fails early
    scored, plans = run.transfers()
    plans |= run.trained(plans)
    pick = least_loss(plans)
    matched = run.matched(plans.get("transfer", plans["identity"]))
    tensors: Params = {}
    evaluated: dict[CandidateName, Evaluated] = {}
    with bar("final", len(plans), show=progress) as advance:
        # The pick comes last, so that no other one is trained while its tensors are kept.
        for name, plan in sorted(plans.items(), key=lambda item: item[0] == pick):
            tensors = {}
            tensors = run.reach(plan, matched.permutation)
            weights = problem.parameterization.dense(tensors)
            evaluated[name] = problem.evaluate(weights, problem.held_out)
            advance(name)
    start, end = (problem.evaluate_source(k, problem.held_out) for k in (0, -1))
    return Outcome(
        plans,
        {name: evaluated[name] for name in plans},
        start,
        end,
        pick,
        tensors,
        run.permutation_of(plans[pick], matched.permutation),
        matched.permutation.moved(),
        scored,
        matched.history,
        len(problem.training),
        problem.terms,
    )


def folds_of(examples: Labelled, folds: int, seed: int) -> list[Fold]:
    """How examples are divided for cross-validation: classes spread evenly, if there are any.

    Args:
        examples: At least two.
        folds: How many; at most one for each example.
        seed: Of the division.

    Example:
        >>> examples = Labelled(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]))
        >>> for fold in folds_of(examples, 2, seed=0):
        ...     print(sorted(examples.labels[fold.held_out].tolist()))
        [0, 1]
        [0, 1]
    """
    labels = examples.labels
    classes = labels if labels.ndim == 1 else torch.zeros(len(labels))
    generator = Generator().manual_seed(seed)
    return stratified_folds(classes, min(folds, len(labels)), generator)


@dataclass(frozen=True, eq=False)
class _Matched:
    """The method's permutation from all training examples, and the records of its steps."""

    permutation: Permutation
    history: Sequence[StepRecord] = ()


@dataclass(frozen=True, eq=False)
class _Run:
    """A selection in progress."""

    problem: SelectionProblem
    rules: Rules
    folder: Path | None
    given: Permutation | None
    progress: bool = field(kw_only=True)
    _of_folds: list[tuple[Permutation, ...]] = field(
        default_factory=list[tuple[Permutation, ...]], init=False
    )

    def transfers(self) -> tuple[tuple[ScoredCandidate, ...], dict[CandidateName, Plan]]:
        """The candidates that train nothing, each at its best step and scale."""
        kinds = self._kinds()
        if not self._is_validated():
            last = self.problem.source.steps
            return (), {n: Plan(k, 0 if k == "untouched" else last) for n, k in kinds.items()}
        found = cross_validate(
            self.problem.source,
            self.problem.target_init,
            self.problem.spec,
            self._method,
            self.problem.training,
            folds=self._folds(),
            score=lambda params, part: -self.problem.evaluate(params, part).loss,
            finish=self.problem.finish,
            scales=self.rules.scales,
            folder=self._place("folds"),
            progress=self.progress,
        )
        self._of_folds.extend(found.permutations)
        scored = (*found.candidates, *self._scaled_identities())
        return scored, {name: best_of_kind(scored, kind) for name, kind in kinds.items()}

    def trained(self, plans: Mapping[CandidateName, Plan]) -> dict[CandidateName, Plan]:
        """Direct training from the untouched target, and from the better of the transfers."""
        if not self._is_validated() or not self.rules.direct_steps:
            return {}
        transfers = (plans[name] for name in ("transfer", "identity") if name in plans)
        better = min(transfers, key=lambda plan: plan.comparable_loss)
        starts: dict[CandidateName, Plan] = {"direct": plans["untouched"], "then direct": better}
        folds, rules = self._folds(), TrainingRules.of(self.rules)
        count = len(starts) * len(rules.learning_rates) * len(folds)
        result: dict[CandidateName, Plan] = {}
        with bar("direct training", count, show=self.progress) as advance:
            for name, plan in starts.items():
                training = choose_training(
                    self.problem,
                    rules,
                    [self._trial(name, plan, number) for number in range(len(folds))],
                    folder=self._place("direct"),
                    advance=advance,
                )
                result[name] = Plan(plan.kind, plan.step, plan.scale, training.loss, training)
        return result

    def matched(self, plan: Plan) -> _Matched:
        """The permutation of a plan, matched on all training examples, as far as it goes."""
        if plan.kind != "method":
            return _Matched(Permutation.identity(self.problem.spec))
        if self.given is not None:
            return _Matched(self.given)
        found = explore(
            Problem(self.problem.source, self.problem.target_init, self.problem.spec),
            self._method(self.problem.training),
            last_step=plan.step,
            folder=self._place("transfer"),
            progress=self.progress,
        )
        return _Matched(found.permutations[plan.step - 1], found.history)

    def reach(self, plan: Plan, permutation: Permutation) -> Params:
        """The tensors of a plan, trained on all training examples if the plan has training."""
        permutation = self.permutation_of(plan, permutation)
        tensors = self.problem.place(permutation, plan.step, plan.scale)
        if plan.training is not None:
            rules = TrainingRules.of(self.rules)
            tensors = train(self.problem, tensors, self.problem.training, plan.training, rules)
        elif plan.kind == "untouched":
            return tensors
        return tensors if self.problem.finish is None else self.problem.finish(tensors)

    def permutation_of(self, plan: Plan, permutation: Permutation) -> Permutation:
        """The permutation of a plan, given the method's."""
        is_moved = plan.kind == "method"
        return permutation if is_moved else Permutation.identity(self.problem.spec)

    def _is_validated(self) -> bool:
        return self.rules.folds > 0 and len(self.problem.training) > 1

    def _folds(self) -> list[Fold]:
        return folds_of(self.problem.training, self.rules.folds, self.rules.seed)

    def _place(self, *parts: str) -> Path | None:
        return None if self.folder is None else self.folder.joinpath(*parts)

    def _kinds(self) -> dict[CandidateName, Kind]:
        """The kind of each candidate; a permutation that moves nothing is the identity."""
        kinds: dict[CandidateName, Kind] = {"untouched": "untouched", "identity": "identity"}
        if self.rules.method == "identity":
            return kinds
        if self.given is None or self.given.moved():
            kinds["transfer"] = "method"
        return kinds

    def _method(self, examples: Labelled) -> Method[Any]:
        count = -(-len(examples) // self.rules.batch_size)
        batches = [(part.inputs, part.labels) for part in examples.parts(count)]
        available = Available(
            gradient=partial(self.problem.gradient, batches),
            model=self.problem.model,
            inputs=lambda: [
                self.problem.task.feed(piece)
                for piece in examples.inputs.split(self.problem.micro_batch)
            ],
            normalize=self.rules.normalize,
            also=self.problem.also,
            keep=torch.bfloat16 if self.rules.pairs_dtype == "bfloat16" else None,
            permutation=self.given,
        )
        name = "fgmt" if self.rules.method == "auto" else self.rules.method
        return make_method(name if self.given is None else "given", available)

    def _scaled_identities(self) -> list[ScoredCandidate]:
        """The identity does not depend on the fold, so all examples evaluate it at once."""
        identity, last = Permutation.identity(self.problem.spec), self.problem.source.steps
        found: list[ScoredCandidate] = []
        for scale in self.rules.scales:
            params = self.problem.weights(self.problem.place(identity, last, scale))
            loss = self.problem.evaluate(params, self.problem.training).loss
            found.append(ScoredCandidate("identity", last, scale, -loss))
        return found

    def _trial(self, name: CandidateName, plan: Plan, number: int) -> Trial:
        fold = self._folds()[number]
        known = self.problem.training.take(fold.train)
        left_out = self.problem.training.take(fold.held_out)

        def start() -> dict[str, Tensor]:
            permutation = Permutation.identity(self.problem.spec)
            if plan.kind == "method":
                permutation = self._of_folds[number][plan.step - 1]
            return self.problem.place(permutation, plan.step, plan.scale)

        label = f"{name.replace(' ', '-')}-{fold_name(known, left_out)}"
        return Trial(label, start, known, left_out)
