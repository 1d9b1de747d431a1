"""What a competition means: share of lift with an interval, and a verdict in plain words."""

import torch

from symport.selection._compete import Name, Outcome, Plan
from symport.selection._interval import (
    FEWEST,
    Interval,
    interval_of,
    mean_interval,
    resamples,
    too_few,
)


def share_of_lift(outcome: Outcome, name: Name, seed: int = 0) -> Interval | None:
    """How much of what the fine-tune gains on its own base a competitor gains on the new one.

    (loss(untouched) − loss(competitor)) / (loss(old base) − loss(fine-tune)), on the same examples.

    Returns:
        None if the fine-tune's own gain is not surely positive, so that there is no whole; or if
        there are fewer than 6 examples.
    """
    gained = outcome.judged["untouched"].losses - outcome.judged[name].losses
    whole = outcome.old_base.losses - outcome.tuned.losses
    if len(whole) < FEWEST or not mean_interval(whole, seed).is_positive:
        return None
    places = resamples(len(whole), seed)
    shares = torch.cat([gained[index].mean(1) / whole[index].mean(1) for index in places])
    return interval_of(float(gained.mean() / whole.mean()), shares)


def title(name: Name, plan: Plan) -> str:
    """What a competitor is called.

    Example:
        >>> title("then direct", Plan("identity", 8))
        'the identity, then direct training'
    """
    first = "the transfer" if plan.kind == "method" else "the identity"
    names: dict[Name, str] = {
        "untouched": "the untouched new base",
        "identity": "the identity",
        "transfer": "the transfer",
        "direct": "direct training",
        "then direct": f"{first}, then direct training",
    }
    return names[name]


def verdict(outcome: Outcome, seed: int = 0) -> list[str]:
    """Sentences: what was picked and what it gains, each rival, and what follows."""
    if few := too_few(len(outcome.tuned.losses), "held back"):
        return [_picked(outcome, seed), few]
    return [_picked(outcome, seed), *_duels(outcome, seed), *_advice(outcome, seed)]


def _picked(outcome: Outcome, seed: int) -> str:
    pick, loss = outcome.pick, outcome.judged[outcome.pick].loss
    count = len(outcome.tuned.losses)
    text = (
        f"Picked {title(pick, outcome.plans[pick])}: on {count} example{'s' * (count > 1)} held "
        f"back its loss is "
        f"{loss:.3f}, that of the untouched new base {outcome.judged['untouched'].loss:.3f}"
    )
    share = share_of_lift(outcome, pick, seed)
    return f"{text}." if share is None else f"{text}; share of lift {share.percent}."


def _duels(outcome: Outcome, seed: int) -> list[str]:
    """One sentence for each rival, on the examples held back."""
    pick = outcome.pick
    first = title(pick, outcome.plans[pick])
    sentences: list[str] = []
    for name, judged in outcome.judged.items():
        if name == pick:
            continue
        gain = mean_interval(judged.losses - outcome.judged[pick].losses, seed)
        rival = title(name, outcome.plans[name])
        if gain.is_positive:
            sentences.append(f"It beats {rival} by {gain}.")
        elif gain.is_negative:
            sentences.append(f"Held back, {rival} is better than {first} by {-gain.value:.3g}.")
        else:
            sentences.append(f"No clear difference from {rival}: {gain}.")
    return sentences


def _advice(outcome: Outcome, seed: int) -> list[str]:
    own = mean_interval(outcome.old_base.losses - outcome.tuned.losses, seed)
    follows = {
        "untouched": "Nothing helped: keep the new base as it is, or bring more examples.",
        "identity": "The new base takes the fine-tune as it is: no alignment is needed.",
        "transfer": "Aligning the units is what helps; training on these examples adds nothing.",
        "direct": "The examples alone do better without the fine-tune: plain training is enough.",
        "then direct": "The fine-tune is worth most as the place from which to train a few steps.",
    }
    plan = outcome.plans[outcome.pick]
    advice = [follows[outcome.pick]] if plan.loss is not None else []
    if plan.steps is not None and 0 < plan.steps.count == max(plan.steps.curves[plan.steps.lr]):
        advice.append("The most steps that were tried are the best: --direct-steps may be higher.")
    if not own.is_positive:
        advice.append(
            f"On its own base the fine-tune gains {own} on these examples: not surely anything, "
            "so there is no whole to take a share of. Are they what it was made for?"
        )
    return advice
