"""Interrupted trainings continue after their last saved pass, with bit-identical results."""

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from symport.errors import FileError
from symport.io import make_folder, open_tensors, save_tensors
from symport_recipes.training._epochs import Epoch, Run

FORMAT = "symport-training-1"
INTERVAL_SECONDS = 60.0  # what is lost at most; writing takes a second or less


def save_run(path: Path, run: Run) -> None:
    """Write a training after a pass: network, optimizer, order of the examples, history, scores.

    Raises:
        FileError: The file cannot be written.
    """
    tensors = {f"net.{name}": tensor for name, tensor in run.net.state_dict().items()}
    for number, values in run.optimizer.state_dict()["state"].items():
        found = {key: value for key, value in values.items() if isinstance(value, Tensor)}
        tensors |= {f"optimizer.{number}.{key}": value for key, value in found.items()}
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    note = {
        "format": FORMAT,
        "history": json.dumps([asdict(epoch) for epoch in run.history]),
        "scores": json.dumps(run.scores),
    }
    make_folder(path.parent)
    save_tensors(path, {**plain, "order": run.order.get_state()}, note)


def restore_run_(path: Path, run: Run) -> None:
    """Put a training back to where `save_run` left it.

    Args:
        path: The file.
        run: A fresh one of the same network, settings and seed.

    Raises:
        FileError: The file is damaged, or of another training.
    """
    with open_tensors(path) as file:
        if file.metadata.get("format") != FORMAT:
            raise FileError(f"{path}: no training of this program; delete it to train anew")
        try:
            state = {name: file[name] for name in file}
            run.order.set_state(state.pop("order"))
            run.net.load_state_dict(_under("net.", state))
            _restore_optimizer_(run.optimizer, _under("optimizer.", state))
            run.history[:] = [Epoch(**epoch) for epoch in json.loads(file.metadata["history"])]
            run.scores[:] = json.loads(file.metadata["scores"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise FileError(
                f"{path}: not of this training ({error}); delete it to train anew"
            ) from error


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): tensor for k, tensor in state.items() if k.startswith(prefix)}


def _restore_optimizer_(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    tensors = optimizer.param_groups[0]["params"]
    by_number: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for name, value in state.items():
        number, key = name.split(".")
        # Laid out in memory as the weights are, which the fused step takes for granted.
        like = tensors[int(number)]
        laid_out = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        by_number[int(number)][key] = laid_out
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(by_number)})
