"""The share of lift with its interval, and the verdict on a selection in sentences."""

import torch

from symport.selection._candidates import CandidateName, title
from symport.selection._intervals import (
    FEWEST,
    Interval,
    interval_of,
    mean_interval,
    resamples,
    too_few,
)
from symport.selection._select import Outcome


def share_of_lift(outcome: Outcome, name: CandidateName, seed: int = 0) -> Interval | None:
    """How much of what the source gains on its own network a candidate gains on the target.

    (loss(untouched) − loss(candidate)) / (loss(source's start) − loss(source's end)), on the same
    held-out examples.

    Args:
        outcome: What a selection found.
        name: The candidate.
        seed: Of the bootstrap.

    Returns:
        None if the 95% interval of the source's own gain is not above 0, or if there are fewer
        than 6 examples.

    Example:
        With the outcome of the example of `select`:

        >>> print(share_of_lift(outcome, "identity"))
        1 (1 to 1)
    """
    gained = outcome.evaluated["untouched"].losses - outcome.evaluated[name].losses
    whole = outcome.source_start.losses - outcome.source_end.losses
    if len(whole) < FEWEST or not mean_interval(whole, seed).is_positive:
        return None
    places = resamples(len(whole), seed)
    shares = torch.cat([gained[index].mean(1) / whole[index].mean(1) for index in places])
    return interval_of(float(gained.mean() / whole.mean()), shares)


def verdict(outcome: Outcome, seed: int = 0) -> list[str]:
    """Sentences: what was picked and what it gains, each other candidate, and what follows.

    A difference is reported only if its 95% bootstrap interval over the paired held-out examples
    excludes 0, and only on at least 6 of them.

    Args:
        outcome: What a selection found.
        seed: Of the bootstrap.

    Example:
        With the outcome of the example of `select`:

        >>> verdict(outcome)[-1]
        'The fine-tune fits the new base as it is: no alignment is needed.'
    """
    if few := too_few(outcome.held_out_examples, "held-out examples"):
        return [_picked(outcome, seed), few]
    return [_picked(outcome, seed), *_differences(outcome, seed), *_advice(outcome, seed)]


def _title(outcome: Outcome, name: CandidateName) -> str:
    return title(name, outcome.plans[name], outcome.terms)


def _picked(outcome: Outcome, seed: int) -> str:
    count, own = outcome.held_out_examples, outcome.evaluated[outcome.pick]
    untouched = outcome.evaluated["untouched"]
    text = (
        f"Picked {_title(outcome, outcome.pick)}: on {count} held-out example{'s' * (count > 1)} "
        f"its loss is {own.loss:.3f}, that of {_title(outcome, 'untouched')} {untouched.loss:.3f}"
    )
    share = share_of_lift(outcome, outcome.pick, seed)
    return f"{text}." if share is None else f"{text}; share of lift {share.percent}."


def _differences(outcome: Outcome, seed: int) -> list[str]:
    """One sentence for each other candidate, on the held-out examples."""
    pick = outcome.pick
    sentences: list[str] = []
    for name, evaluated in outcome.evaluated.items():
        if name == pick:
            continue
        gain = mean_interval(evaluated.losses - outcome.evaluated[pick].losses, seed)
        other = _title(outcome, name)
        if gain.is_positive:
            sentences.append(f"Its loss is lower than that of {other} by {gain}.")
        elif gain.is_negative:
            sentences.append(
                f"On the held-out examples the loss of {other} is lower than that of "
                f"{_title(outcome, pick)} by {-gain}."
            )
        else:
            sentences.append(f"No clear difference from {other}: {gain}.")
    return sentences


def _advice(outcome: Outcome, seed: int) -> list[str]:
    own = mean_interval(outcome.source_start.losses - outcome.source_end.losses, seed)
    target, training = outcome.terms.target, outcome.terms.training
    meanings: dict[CandidateName, str] = {
        "untouched": f"Nothing helped: keep {target} as it is, or bring more examples.",
        "identity": f"{training} fits {target} as it is: no alignment is needed.",
        "transfer": "Aligning the units helps; training on these examples adds nothing.",
        "direct": f"The examples alone do better without {training}: plain training is enough.",
        "then direct": f"{training} helps most as the start of a few steps of training.",
    }
    plan = outcome.plans[outcome.pick]
    advice: list[str] = []
    if plan.loss is not None:
        meaning = meanings[outcome.pick]
        advice.append(meaning[0].upper() + meaning[1:])
    if plan.training is not None and plan.training.is_longest:
        advice.append("The most steps that were tried are the best: --direct-steps may be higher.")
    if not own.is_positive:
        advice.append(
            f"On its own network {training} gains {own} on these examples, which is not clearly "
            "above 0, so there is no share of lift; use examples of its own task."
        )
    return advice
