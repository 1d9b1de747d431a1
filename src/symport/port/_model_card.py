"""The model card and the numbers of a result, to be read by people and by programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symport.io import write_text
from symport.port._settings import PortSettings
from symport.selection import Name, Outcome, share_of_lift, title
from symport.settings import show_settings


@dataclass(frozen=True)
class Row:
    """What one competitor reached, or what the old base and its fine-tune do there.

    Attributes:
        name: Its title.
        loss: Mean loss on the examples held back.
        accuracy: In [0, 1], or None.
        share: Share of lift with its interval, or None.
        cross_validated: Mean loss in cross-validation, or None.
        how: Step, length and training.
    """

    name: str
    loss: float
    accuracy: float | None
    share: str | None
    cross_validated: float | None
    how: str


def header(settings: PortSettings) -> tuple[str, str, str, str, str]:
    """What the columns of `cells` are; the losses of all tasks are in nats but for one's own."""
    loss = "loss (nats)" if settings.loss is None else "loss"
    return "", loss, "accuracy", "share of lift", "how"


def rows_of(outcome: Outcome, seed: int) -> list[Row]:
    """What is to be carried over, and one row for each competitor."""
    origin = {"the old base": outcome.old_base, "its fine-tune": outcome.tuned}
    return [
        *(Row(n, one.loss, one.accuracy, None, None, "as it is") for n, one in origin.items()),
        *(_row(outcome, name, seed) for name in outcome.plans),
    ]


def write_card(
    folder: Path, settings: PortSettings, verdict: Sequence[str], rows: Sequence[Row]
) -> None:
    """Write README.md, with the head that the hub reads."""
    is_adapter = (folder / "adapter_config.json").is_file()
    head = ["---", f"base_model: {json.dumps(settings.new_base)}"]
    head += [
        f"library_name: {'peft' if is_adapter else 'transformers'}",
        "tags:",
        "- symport",
        "---",
    ]
    table = [f"| {' | '.join(header(settings))} |", "|---|---|---|---|---|"]
    table += [f"| {' | '.join(cells(row))} |" for row in rows]
    text = [
        *head,
        "",
        f"# {settings.out.name}",
        "",
        f"The fine-tune `{settings.tuned}` of `{settings.old_base}`,",
        f"put on `{settings.new_base}` by [symport](https://pypi.org/project/symport/).",
        "",
        *verdict,
        "",
        *(table if rows else []),
        "",
        "## How it was made",
        "",
        "```yaml",
        show_settings(settings).rstrip(),
        "```",
        "",
    ]
    write_text(folder / "README.md", "\n".join(text))


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """A row as text: name, loss, accuracy, share of lift, how."""
    accuracy = "–" if row.accuracy is None else f"{row.accuracy:.1%}"
    return row.name, f"{row.loss:.4f}", accuracy, row.share or "–", row.how


def write_numbers(
    folder: Path, settings: PortSettings, verdict: Sequence[str], outcome: Outcome | None
) -> None:
    """Write result.json: settings, verdict, and the numbers of every competitor."""
    content: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "verdict": list(verdict),
    }
    if outcome is not None:
        content |= {
            "picked": outcome.pick,
            "working_examples": outcome.working,
            "held_back_examples": len(outcome.tuned.losses),
            "units_moved": outcome.moved,
            "old_base": {"loss": outcome.old_base.loss, "accuracy": outcome.old_base.accuracy},
            "tuned": {"loss": outcome.tuned.loss, "accuracy": outcome.tuned.accuracy},
            "competitors": {name: _numbers(outcome, name, settings.seed) for name in outcome.plans},
        }
    write_text(folder / "result.json", json.dumps(content, indent=1) + "\n")


def _row(outcome: Outcome, name: Name, seed: int) -> Row:
    plan, judged = outcome.plans[name], outcome.judged[name]
    share = share_of_lift(outcome, name, seed)
    parts = [] if plan.kind == "untouched" else [f"step {plan.step}, length {plan.length:g}"]
    if plan.steps is not None:
        parts.append(f"{plan.steps.count} steps at {plan.steps.lr:g}")
    percent = None if share is None else share.percent
    how = "; ".join(parts) or "–"
    return Row(title(name, plan), judged.loss, judged.accuracy, percent, plan.loss, how)


def _numbers(outcome: Outcome, name: Name, seed: int) -> Mapping[str, Any]:
    plan, judged = outcome.plans[name], outcome.judged[name]
    share = share_of_lift(outcome, name, seed)
    return {
        "loss": judged.loss,
        "accuracy": judged.accuracy,
        "share_of_lift": None if share is None else [share.value, share.low, share.high],
        "cross_validated_loss": plan.loss,
        "step": plan.step,
        "length": plan.length,
        "direct_steps": None if plan.steps is None else plan.steps.count,
        "direct_lr": None if plan.steps is None else plan.steps.lr,
    }
