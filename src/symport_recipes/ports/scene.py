"""What an experiment of porting needs: a fine-tune, where it is to go, and examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from symport.batches import Labelled
from symport.port.settings import TaskName


@dataclass(frozen=True, eq=False)
class Scene:
    """Networks as model folders, and examples of the fine-tune's task.

    Attributes:
        task: As `symport port` calls it.
        old: The base that was fine-tuned.
        tuned: Its fine-tune, whole or a PEFT adapter.
        targets: New bases by what they are to the old one.
        pool: Examples to draw from; the fine-tune may have seen them.
        reporting: Examples that no network was trained on.
    """

    task: TaskName
    old: Path
    tuned: Path
    targets: Mapping[str, Path]
    pool: Labelled
    reporting: Labelled
