"""Which way of using a fine-tune and a few examples is best on a new base?

The examples at hand match, choose and train, all by cross-validation; those held back only report.
Nothing here knows what the network is or where it came from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Generator, Tensor

from symport.data import Fold, Labelled, stratified_folds
from symport.methods import (
    Available,
    Method,
    Problem,
    comparable,
    explore,
    make_method,
)
from symport.params import Params
from symport.progress import bar
from symport.selection._cross_validation import Kind, Ranked, cross_validate, fold_name
from symport.selection._early_stopping import Steps, Trial, choose_steps, train
from symport.selection._problem import Contest, Judged
from symport.settings import Rules
from symport.spec import Permutation

Name: TypeAlias = Literal["untouched", "identity", "transfer", "direct", "then direct"]

TIE = 1e-6  # relative: losses come from float32


@dataclass(frozen=True)
class Plan:
    """How one competitor is reached, decided by the working examples.

    Attributes:
        kind: Whose permutation: the method's, or the identity's; `"untouched"` has no use for one.
        step: How far along the trajectory.
        length: Factor on the displacement.
        loss: Its mean loss in cross-validation; None if there was none.
        steps: The direct training that follows, or None.
    """

    kind: Kind
    step: int
    length: float = 1.0
    loss: float | None = None
    steps: Steps | None = None

    def far(self, contest: Contest) -> float:
        """The length of the whole displacement that it takes."""
        return self.length * contest.source.fractions[self.step]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the competition found.

    Attributes:
        plans: How each competitor was reached.
        judged: What it does on the examples held back.
        old_base: What the old base does there.
        tuned: What the fine-tune does there, on its own base.
        pick: The competitor of least loss in cross-validation.
        held: Its tensors, as `Contest.space` has them.
        moved: The share of units that the method moves.
        candidates: Every step and length that was scored, `score` being minus the mean loss.
        working: Number of examples that matched, chose and trained.
    """

    plans: Mapping[Name, Plan]
    judged: Mapping[Name, Judged]
    old_base: Judged
    tuned: Judged
    pick: Name
    held: Params
    moved: float
    candidates: Sequence[Ranked]
    working: int


def compete(
    contest: Contest,
    rules: Rules,
    *,
    folder: Path | None,
    given: Permutation | None = None,
    progress: bool = False,
) -> Outcome:
    """Run every competitor, pick the best, and judge all on examples held back.

    Args:
        contest: The problem.
        rules: How; `folds=0` takes the last step of the method and trains nothing.
        folder: Where work is kept; the same call goes on there after an interruption. None where
            processes are joined.
        given: A permutation found elsewhere, in place of gradient matching.
        progress: Whether to show progress bars.

    Raises:
        DataError: The model or the loss fails on the examples.
        ParamsError: As `transfer`.
        SpecError: As `transfer`.
        FileError: As `transfer`.
        SettingsError: The loss does not return one value for each example.
    """
    run = _Run(contest, rules, folder, given, progress=progress)
    contest.judge(contest.target_init, contest.reporting.take(torch.arange(1)))  # fails early
    candidates, plans = run.transfers()
    plans |= run.trained(plans)
    pick = _best(plans)
    permutation = run.permutation(plans.get("transfer", plans["identity"]))
    held: Params = {}
    judged: dict[Name, Judged] = {}
    with bar("final", len(plans), show=progress) as advance:
        # The pick comes last, so that no other one is trained while its tensors are kept.
        for name, plan in sorted(plans.items(), key=lambda item: item[0] == pick):
            held = {}
            held = run.reach(plan, permutation)
            judged[name] = contest.judge(contest.space.dense(held), contest.reporting)
            advance(name)
    old_base, tuned = (contest.judge_source(k, contest.reporting) for k in (0, -1))
    return Outcome(
        plans,
        {name: judged[name] for name in plans},
        old_base,
        tuned,
        pick,
        held,
        permutation.moved(),
        candidates,
        len(contest.working),
    )


def folds_of(examples: Labelled, rules: Rules) -> list[Fold]:
    """How examples are divided for cross-validation: classes spread evenly, if there are any."""
    labels = examples.labels
    classes = labels if labels.ndim == 1 else torch.zeros(len(labels))
    generator = Generator().manual_seed(rules.seed)
    return stratified_folds(classes, min(rules.folds, len(labels)), generator)


@dataclass(frozen=True, eq=False)
class _Run:
    """The competition while it runs."""

    contest: Contest
    rules: Rules
    folder: Path | None
    given: Permutation | None
    progress: bool = field(kw_only=True)
    _of_folds: list[tuple[Permutation, ...]] = field(
        default_factory=list[tuple[Permutation, ...]], init=False
    )

    def transfers(self) -> tuple[tuple[Ranked, ...], dict[Name, Plan]]:
        """The competitors that train nothing, each at its best step and length."""
        kinds = self._kinds()
        if not self.rules.folds:
            last = self.contest.source.steps
            return (), {n: Plan(k, 0 if k == "untouched" else last) for n, k in kinds.items()}
        found = cross_validate(
            self.contest.source,
            self.contest.target_init,
            self.contest.spec,
            self._method,
            self.contest.working,
            folds=folds_of(self.contest.working, self.rules),
            score=lambda params, part: -self.contest.judge(params, part).loss,
            lengths=self.rules.scales,
            folder=self._place("folds"),
            progress=self.progress,
        )
        self._of_folds.extend(found.permutations)
        candidates = (*found.candidates, *self._longer_identities())
        return candidates, {name: _least(candidates, kind) for name, kind in kinds.items()}

    def trained(self, plans: Mapping[Name, Plan]) -> dict[Name, Plan]:
        """Direct training from the untouched new base, and from the better of the transfers."""
        if not self.rules.folds or not self.rules.direct_steps:
            return {}
        better = min((plans[n] for n in ("transfer", "identity") if n in plans), key=_loss)
        starts: dict[Name, Plan] = {"direct": plans["untouched"], "then direct": better}
        folds = folds_of(self.contest.working, self.rules)
        count = len(starts) * len(self.rules.learning_rates) * len(folds)
        result: dict[Name, Plan] = {}
        with bar("direct training", count, show=self.progress) as advance:
            for name, plan in starts.items():
                steps = choose_steps(
                    self.contest,
                    self.rules,
                    [self._trial(name, plan, number) for number in range(len(folds))],
                    folder=self._place("direct"),
                    advance=advance,
                )
                result[name] = Plan(plan.kind, plan.step, plan.length, steps.loss, steps)
        return result

    def permutation(self, plan: Plan) -> Permutation:
        """The permutation of a plan, matched on all working examples, as far as it goes."""
        if plan.kind != "method":
            return Permutation.identity(self.contest.spec)
        if self.given is not None:
            return self.given
        contest = self.contest
        return explore(
            Problem(contest.source, contest.target_init, contest.spec),
            self._method(contest.working),
            last_step=plan.step,
            folder=self._place("transfer"),
            progress=self.progress,
        ).permutations[plan.step - 1]

    def reach(self, plan: Plan, permutation: Permutation) -> Params:
        """The tensors of a plan, trained on all working examples if it says so."""
        start = self.contest.space.place(self.permuted(plan, permutation), plan.far(self.contest))
        if plan.steps is None:
            return start
        return train(self.contest, self.rules, start, self.contest.working, plan.steps)

    def permuted(self, plan: Plan, permutation: Permutation) -> Permutation:
        """The permutation of a plan, given the method's."""
        is_moved = plan.kind == "method"
        return permutation if is_moved else Permutation.identity(self.contest.spec)

    def _place(self, *parts: str) -> Path | None:
        return None if self.folder is None else self.folder.joinpath(*parts)

    def _kinds(self) -> dict[Name, Kind]:
        """Whose candidates each competitor is the best of; the identity needs no second name."""
        kinds: dict[Name, Kind] = {"untouched": "untouched", "identity": "identity"}
        if self.given is None or self.given.moved():
            kinds["transfer"] = "method"
        return kinds

    def _method(self, examples: Labelled) -> Method[Any]:
        count = -(-len(examples) // self.rules.batch_size)
        batches = [(part.inputs, part.labels) for part in examples.parts(count)]
        available = Available(
            gradient=partial(self.contest.gradient, batches),
            model=self.contest.model,
            inputs=lambda: [
                self.contest.task.feed(piece)
                for piece in examples.inputs.split(self.contest.micro_batch)
            ],
            normalize=self.rules.normalize,
            also=self.contest.also,
            keep=torch.bfloat16 if self.rules.pairs_dtype == "bfloat16" else None,
            permutation=self.given,
        )
        name = "fgmt" if self.rules.method == "auto" else self.rules.method
        return make_method(name if self.given is None else "given", available)

    def _longer_identities(self) -> list[Ranked]:
        """No fold changes the identity, so all examples judge it at once."""
        identity = Permutation.identity(self.contest.spec)
        found: list[Ranked] = []
        for length in self.rules.scales:
            params = self.contest.space.dense(self.contest.space.place(identity, length))
            loss = self.contest.judge(params, self.contest.working).loss
            found.append(Ranked("identity", self.contest.source.steps, length, -loss))
        return found

    def _trial(self, name: Name, plan: Plan, number: int) -> Trial:
        working, fold = self.contest.working, folds_of(self.contest.working, self.rules)[number]
        known, left_out = working.take(fold.train), working.take(fold.held_out)

        def start() -> dict[str, Tensor]:
            permutation = Permutation.identity(self.contest.spec)
            if plan.kind == "method":
                permutation = self._of_folds[number][plan.step - 1]
            return self.contest.space.place(permutation, plan.far(self.contest))

        return Trial(
            f"{name.replace(' ', '-')}-{fold_name(known, left_out)}", start, known, left_out
        )


def _least(candidates: Sequence[Ranked], kind: str) -> Plan:
    """The candidate of least loss; among equals the one nearest to the whole displacement."""
    own = [c for c in candidates if c.kind == kind]
    best = max(own, key=lambda c: (comparable(c.score), c.step, -abs(c.scale - 1)))
    return Plan(best.kind, best.step, best.scale, -comparable(best.score))


def _best(plans: Mapping[Name, Plan]) -> Name:
    """The least loss; among equals the one that does less. Without losses, the method."""
    if plans["untouched"].loss is None:
        return "transfer" if "transfer" in plans else "identity"
    # No steps from a start are that start, which has a name of its own, and a loss of its own way
    # of rounding.
    plans = {n: plan for n, plan in plans.items() if plan.steps is None or plan.steps.count}
    best = min(map(_loss, plans.values()))
    return next(name for name, plan in plans.items() if _loss(plan) <= best + TIE * abs(best))


def _loss(plan: Plan) -> float:
    return math.inf if plan.loss is None else plan.loss
