"""The model card and the numbers of a result."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symport.io import write_text
from symport.port._settings import PortSettings
from symport.selection import Outcome, Row, header, numbers_of
from symport.settings import show_settings


def write_card(
    folder: Path, settings: PortSettings, verdict: Sequence[str], rows: Sequence[Row]
) -> None:
    """Write README.md, with the metadata of a model card."""
    is_adapter = (folder / "adapter_config.json").is_file()
    head = ["---", f"base_model: {json.dumps(settings.new_base)}"]
    head += [
        f"library_name: {'peft' if is_adapter else 'transformers'}",
        "tags:",
        "- symport",
        "---",
    ]
    names = header(is_own_loss=settings.loss is not None)
    table = [f"| {' | '.join(names)} |", "|---|---|---|---|---|"]
    table += [f"| {' | '.join(row.cells)} |" for row in rows]
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


def write_numbers(
    folder: Path, settings: PortSettings, verdict: Sequence[str], outcome: Outcome | None
) -> None:
    """Write result.json: settings, verdict, and the numbers of every candidate."""
    content: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "verdict": list(verdict),
    }
    if outcome is not None:
        content |= numbers_of(outcome, settings.seed)
    write_text(folder / "result.json", json.dumps(content, indent=1) + "\n")
