from dataclasses import replace
from typing import cast

import pytest
import torch
from cases import present

from symport.selection import (
    CandidateName,
    Evaluated,
    Interval,
    Kind,
    Outcome,
    Plan,
    share_of_lift,
    verdict,
)
from symport.selection._candidates import title
from symport.selection._early_stopping import DirectTraining
from symport.selection._intervals import mean_interval
from symport.spec import Permutation

N = 200
NOISE = 0.1 * torch.randn(N, generator=torch.Generator().manual_seed(0)).double()


def outcome(pick: CandidateName, **losses: float) -> Outcome:
    """Candidates whose examples share their noise, with these mean losses."""
    given = cast("dict[CandidateName, float]", losses)  # keywords are strings to pyright
    kinds: dict[CandidateName, Kind] = {
        "untouched": "untouched",
        "identity": "identity",
        "direct": "untouched",
    }
    steps = DirectTraining(4, 1e-3, 1.0, {1e-3: {0: 1.5, 4: 1.0, 8: 1.2}})
    plans: dict[CandidateName, Plan] = {
        name: Plan(kinds.get(name, "method"), 2, 1.0, loss, steps if "direct" in name else None)
        for name, loss in given.items()
    }
    centred = NOISE - NOISE.mean()
    evaluated: dict[CandidateName, Evaluated] = {
        name: Evaluated(centred + loss) for name, loss in given.items()
    }
    old, tuned = Evaluated(centred + 2.0), Evaluated(centred + 1.0)
    identity = Permutation({})
    return Outcome(plans, evaluated, old, tuned, pick, {}, identity, 0.5, (), (), 10)


def test_an_interval_is_as_wide_as_the_standard_error_says():
    found = mean_interval(NOISE)
    error = float(NOISE.std()) / N**0.5
    assert found.value == pytest.approx(float(NOISE.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.low < found.value < found.high


def test_the_share_of_lift_is_the_gain_over_the_fine_tunes_own_gain():
    found = share_of_lift(outcome("transfer", untouched=3.0, transfer=2.75), "transfer")
    found = present(found)
    assert found.value == pytest.approx(0.25)
    assert found.low == pytest.approx(0.25)  # noise that all share cancels


def test_few_examples_give_no_interval_and_no_difference():
    """Five differences agree in sign by chance once in sixteen times."""
    many = outcome("transfer", untouched=3.0, transfer=2.75)

    def first(side, count):
        return Evaluated(side.losses[:count])

    def cut(count):
        evaluated = {name: first(side, count) for name, side in many.evaluated.items()}
        ends = {name: first(getattr(many, name), count) for name in ("source_start", "source_end")}
        return replace(many, **ends, evaluated=evaluated)

    assert share_of_lift(cut(5), "transfer") is None
    assert verdict(cut(5))[1:] == [
        "Only 5 held-out examples: too few to compare candidates on; bring more."
    ]
    assert "on 1 held-out example " in verdict(cut(1))[0]
    assert present(share_of_lift(cut(6), "transfer")).value == pytest.approx(0.25)
    assert any("Its loss is lower" in line for line in verdict(cut(6)))


def test_the_verdict_says_when_more_steps_may_be_better():
    found = outcome("direct", untouched=3.0, direct=2.0)
    assert not any("--direct-steps" in line for line in verdict(found))
    most = DirectTraining(8, 1e-3, 1.0, {1e-3: {0: 1.5, 4: 1.2, 8: 1.0}})
    plans = {**found.plans, "direct": Plan("untouched", 0, 1.0, 1.0, most)}
    longer = replace(found, plans=plans)
    assert any("--direct-steps may be higher" in line for line in verdict(longer))


def test_there_is_no_share_of_nothing():
    same = outcome("transfer", untouched=3.0, transfer=2.75)
    flat = replace(same, source_end=same.source_start)
    assert share_of_lift(flat, "transfer") is None
    assert any("not clearly above 0" in line for line in verdict(flat))


@pytest.mark.parametrize(
    ("pick", "sentence"),
    [
        ("untouched", "Nothing helped"),
        ("identity", "no alignment is needed"),
        ("transfer", "training on these examples adds nothing"),
        ("direct", "do better without the fine-tune"),
        ("then direct", "the start of a few steps"),
    ],
)
def test_the_verdict_says_what_follows(pick, sentence):
    names = ("untouched", "identity", "transfer", "direct", "then direct")
    losses = {name: 2.0 if name == pick else 2.5 for name in names}
    text = verdict(outcome(pick, **losses))
    assert sentence in text[-1]
    assert sum("Its loss is lower" in line for line in text) == 4


def test_differences_are_paired_and_called_open_or_against_the_pick():
    found = outcome("transfer", untouched=3.0, transfer=2.0, direct=1.9)
    text = verdict(found)
    assert "Its loss is lower than that of the untouched new base by 1 (1 to 1)." in text
    assert any("direct training is lower than that of the transfer by 0.1" in line for line in text)
    mixed = Evaluated(found.evaluated["transfer"].losses + NOISE - NOISE.mean())
    open_ = replace(found, evaluated={**found.evaluated, "direct": mixed})
    assert any("No clear difference from direct" in line for line in verdict(open_))


def test_names_say_whose_permutation_it_was():
    assert title("then direct", Plan("method", 3)) == "the transfer, then direct training"
    assert Interval(0.321, 0.2, 0.44).percent == "32% (20% to 44%)"
