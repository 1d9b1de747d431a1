"""A selection that is kept in a folder: its intermediate files and its result."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from symport.io import save_tensors, write_text
from symport.methods import Problem, claim_folder
from symport.selection._problem import SelectionProblem
from symport.selection._record import numbers_of
from symport.selection._select import Outcome, select
from symport.selection._summary import verdict
from symport.settings import Rules


def select_into(
    folder: Path,
    problem: SelectionProblem,
    rules: Rules,
    *,
    run: Mapping[str, Any],
    progress: bool = False,
) -> Outcome:
    """Run `select`, and write what was picked.

    Writes `params.safetensors` (the picked weights), `permutation.safetensors` (theirs),
    `history.jsonl` (the steps of the method) and `result.json` (verdict and numbers).

    Args:
        folder: Made if it does not exist; the same call resumes there after an interruption.
        problem: The networks and the examples; all weights are kept.
        rules: How.
        run: What identifies this run besides the networks, as JSON can hold it.
        progress: Whether to show progress bars.

    Raises:
        DataError: The model or the loss fails on the examples.
        ParamsError: The target does not fit the source, or a tensor holds NaN or infinity.
        SpecError: The spec does not fit the network.
        FileError: The folder cannot be written, or holds another run.
        SettingsError: The loss does not return one value for each example.

    Example:
        With the problem that the example of `select` makes:

        >>> rules = Rules(steps=2, folds=2, direct_steps=0)
        >>> found = select_into(folder / "run", problem, rules, run={"losses": "squared error"})
        >>> found.pick, (folder / "run" / "result.json").is_file()
        ('identity', True)
    """
    problem.evaluate(problem.target_init, problem.held_out.take(torch.arange(1)))  # fails early
    networks = Problem(problem.source, problem.target_init, problem.spec)
    claim_folder(folder, {**run, **networks.fingerprint})
    outcome = select(problem, rules, folder=folder, progress=progress)
    save_tensors(folder / "permutation.safetensors", outcome.permutation.indices)
    lines = [json.dumps(asdict(record)) + "\n" for record in outcome.history]
    write_text(folder / "history.jsonl", "".join(lines))
    content = {"verdict": verdict(outcome, rules.seed), **numbers_of(outcome, rules.seed)}
    write_text(folder / "result.json", json.dumps(content, indent=1) + "\n")
    save_tensors(folder / "params.safetensors", outcome.tensors)
    return outcome
