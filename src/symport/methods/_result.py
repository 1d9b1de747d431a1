"""What a transfer returns: candidates with their scores, and the parameters of the best."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from symport.io import save_tensors, write_text
from symport.methods._journal import StepRecord
from symport.spec import Permutation


@dataclass(frozen=True)
class Candidate:
    """One set of parameters that a transfer can return.

    Attributes:
        step: The step of the trajectory, from 1 to T; 0 is the untouched target.
        scale: The factor α on the displacement; 1 for a step of the method itself.
        score: Its score, higher is better; None if it has not been scored.
    """

    step: int
    scale: float = 1.0
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Explored:
    """The steps of a method and their scores; `Problem.place` makes the parameters.

    Attributes:
        permutations: The permutation of each step, from the first.
        candidates: Every step, then every scale of the last one, with their scores; without a
            score the last step.
        history: One record for each step.
    """

    permutations: tuple[Permutation, ...]
    candidates: tuple[Candidate, ...]
    history: tuple[StepRecord, ...]


@dataclass(frozen=True, eq=False)
class TransferResult:
    """The parameters that a transfer returns, and how they were reached.

    Attributes:
        params: The chosen parameters, after `finish`.
        permutation: The permutation that they were placed with.
        choice: The candidate that they are.
        candidates: All candidates that were scored; without a score the chosen one.
        history: One record for each step.

    Example:
        >>> import torch
        >>> from symport.methods import Identity, transfer
        >>> from symport.spec import PermutationSpec
        >>> from symport.trajectory import Trajectory
        >>> source = Trajectory.linear({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 2)
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> result = transfer(source, {"w": torch.zeros(2)}, spec, Identity())
        >>> result.choice, result.evaluations
        (Candidate(step=2, scale=1.0, score=None), 0)
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


def comparable(score: float | None) -> float:
    """A score for comparisons: None and NaN are less than any other.

    Example:
        >>> max([0.5, float("nan"), None], key=comparable)
        0.5
    """
    return -math.inf if score is None or math.isnan(score) else score
