"""Trained networks on disk, by a hash of everything that determines their training."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from symport.distributed import broadcast_flag, rank
from symport.errors import FileError
from symport.io import digest, make_folder, open_tensors, save_tensors
from symport.params import Params
from symport.trajectory import Recorder, Trajectory
from symport_recipes.data import Examples, LazyImages
from symport_recipes.training._epochs import Epoch
from symport_recipes.training._settings import TrainSettings
from symport_recipes.training._train import TrainResult, train

FORMAT = "symport-trained-1"


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Attributes:
        params: Its state dict.
        elapsed_seconds: What the training took when it was done.
        scores: Of the start and after each pass, if a score was asked for.
    """

    params: dict[str, Tensor]
    elapsed_seconds: float
    scores: tuple[float, ...] = ()


def trained(
    model: nn.Module,
    init: Params,
    examples: Examples | LazyImages,
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path | None,
    score: Callable[[Params], float] | None = None,
    progress: Callable[[Epoch], object] | None = None,
) -> Trained:
    """Train a network, or read it if the same training has been done before.

    An interrupted training continues after its last saved pass, at most a minute old.

    Args:
        model: Gives the function.
        init: Its initial state dict.
        examples: What it is trained on.
        settings: Length, rates, optimizer, augmentation.
        seed: Of everything random.
        folder: Where trained networks are kept; None to train anew.
        score: Called at the start and after each pass. It is no part of the hash: one that was
            kept with other scores is read with those, one without is trained again.
        progress: Called after each pass.

    Raises:
        FileError: A file in the folder is damaged, or cannot be written.
        SettingsError: Training diverged.
    """
    key = _key(model, init, examples, settings, seed)
    path = None if folder is None else folder / f"{key}.safetensors"
    if path is not None and broadcast_flag(path.exists()):
        found = _read(path)
        if score is None or found.scores:
            return found
    kind = "unfinished" if score is None else "unfinished-scored"
    resume = None if folder is None else folder / f"{key}-{kind}.safetensors"
    result = train(
        model, init, examples, settings,
        seed=seed, score=score, progress=progress, resume=resume,
    )  # fmt: skip
    done = _done(result)
    if path is not None and resume is not None:
        _write(path, done, settings)
        resume.unlink(missing_ok=True)
    return done


def recorded(
    model: nn.Module,
    init: Params,
    examples: Examples | LazyImages,
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path | None,
) -> Trajectory:
    """The network after each pass of the same training as `trained`, which finds its end.

    Args:
        model: Gives the function.
        init: Its initial state dict.
        examples: What it is trained on.
        settings: Length, rates, optimizer, augmentation.
        seed: Of everything random.
        folder: Where trajectories are kept; None to train anew and keep it in memory.

    Raises:
        FileError: The folder cannot be written.
        SettingsError: Training diverged.
    """
    if folder is None:
        points: list[Params] = []
        train(model, init, examples, settings, seed=seed, recorder=points.append)
        return Trajectory.recorded(points)
    key = _key(model, init, examples, settings, seed)
    steps = folder / f"{key}-steps"
    if not broadcast_flag(steps.exists()):
        unfinished = folder / f"{key}-unfinished"
        recorder = _fresh(unfinished) if rank() == 0 else None
        result = train(model, init, examples, settings, seed=seed, recorder=recorder)
        _write(folder / f"{key}.safetensors", _done(result), settings)
        if rank() == 0:
            unfinished.rename(steps)
    broadcast_flag(True)  # the others wait for the first one's files
    return Trajectory.open(steps)


def _fresh(folder: Path) -> Recorder:
    shutil.rmtree(folder, ignore_errors=True)
    return Recorder(folder)


def _done(result: TrainResult) -> Trained:
    return Trained(result.params, result.history[-1].elapsed_seconds, result.scores)


def _write(path: Path, done: Trained, settings: TrainSettings) -> None:
    """By the first of joined processes; the others wait."""
    if rank() > 0:
        broadcast_flag(False)
        return
    make_folder(path.parent)
    note = {
        "format": FORMAT,
        "seconds": f"{done.elapsed_seconds:.1f}",
        "settings": _text(settings),
        "scores": json.dumps(done.scores),
    }
    save_tensors(path, done.params, note)
    broadcast_flag(True)


def _read(path: Path) -> Trained:
    with open_tensors(path) as file:
        note = file.metadata
        if note.get("format") != FORMAT:
            raise FileError(f"{path}: no trained network of this program; delete it to train anew")
        scores = tuple(json.loads(note.get("scores", "[]")))
        return Trained(dict(file), float(note["seconds"]), scores)


def _key(
    model: nn.Module,
    init: Params,
    examples: Examples | LazyImages,
    settings: TrainSettings,
    seed: int,
) -> str:
    parts = [
        FORMAT,
        str(model),
        digest(init),
        _digest(examples),
        str((examples.mean, examples.std)),
        _text(settings),
        str(seed),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def _digest(examples: Examples | LazyImages) -> str:
    """Of encoded images by the names and sizes of their files: they are too many to read."""
    if isinstance(examples, Examples):
        return digest({"inputs": examples.inputs, "labels": examples.labels})
    labels = digest({"labels": examples.labels})
    return f"{examples.encoded.digest()} {examples.size} {labels}"


def _text(settings: TrainSettings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)
