"""Trained networks on disk, found again by a hash of all that went into their training."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from symport.errors import FileError
from symport.files import digest, open_tensors, save_tensors
from symport.params import Params
from symport_recipes.data import Examples
from symport_recipes.training import Epoch, TrainSettings, train

FORMAT = "symport-trained-1"


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Attributes:
        params: Its state dict.
        elapsed_seconds: What the training took when it was done.
    """

    params: dict[str, Tensor]
    elapsed_seconds: float


def trained(
    model: nn.Module,
    init: Params,
    examples: Examples,
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path | None,
    progress: Callable[[Epoch], object] | None = None,
) -> Trained:
    """Train a network, or read it if the same training has been done before.

    Args:
        model: Gives the function.
        init: Its initial state dict.
        examples: What it is trained on.
        settings: Length, rates, optimizer, augmentation.
        seed: Of everything random.
        folder: Where trained networks are kept; None to train anew.
        progress: Called after each pass.

    Raises:
        FileError: A file in the folder is damaged, or cannot be written.
        SettingsError: Training diverged.
    """
    key = _key(model, init, examples, settings, seed)
    path = None if folder is None else folder / f"{key}.safetensors"
    if path is not None and path.exists():
        return _read(path)
    begun = time.perf_counter()
    params = train(model, init, examples, settings, seed=seed, progress=progress).params
    elapsed = time.perf_counter() - begun
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        note = {"format": FORMAT, "seconds": f"{elapsed:.1f}", "settings": _text(settings)}
        save_tensors(path, params, note)
    return Trained(params, elapsed)


def _read(path: Path) -> Trained:
    with open_tensors(path) as file:
        if file.metadata.get("format") != FORMAT:
            raise FileError(f"{path}: no trained network of this program; delete it to train anew")
        return Trained(dict(file), float(file.metadata["seconds"]))


def _key(
    model: nn.Module, init: Params, examples: Examples, settings: TrainSettings, seed: int
) -> str:
    data = {"inputs": examples.inputs, "labels": examples.labels}
    parts = [
        FORMAT,
        str(model),
        digest(init),
        digest(data),
        str((examples.mean, examples.std)),
        _text(settings),
        str(seed),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def _text(settings: TrainSettings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)
