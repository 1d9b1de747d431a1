"""Is a port worth trying, how, and what will it cost? Cheap, and without labels."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from torch import Tensor

from symport.adapters import displacement, load_adapter
from symport.checkpoint import Checkpoint, open_checkpoint
from symport.params import Params, inner
from symport.port.ancestry import RELATED, cosine, embedding_names
from symport.port.asked import refuse_idle, settled
from symport.port.labelled import reading
from symport.port.likeness import hidden_states, linear_cka
from symport.port.models import (
    Family,
    Folders,
    check_device,
    check_weights,
    find_family,
    find_folders,
    load,
)
from symport.port.settings import PortSettings
from symport.port.tasks import feed_of, read_inputs, task_named
from symport.port.tokenizers import check_tokenizers, load_tokenizer

FEW = 32  # inputs that activations are compared on
SAME_NORMS = 1e-4  # relative: permuting leaves the norm of each tensor, in bfloat16 to its rounding
NEARLY_THE_SAME = (
    0.9  # cosine of all weights: continued training leaves most of them where they were
)
SMALL = 0.1  # of the weights' norm; fine-tunes of language models are usually below a hundredth


@dataclass(frozen=True)
class Cost:
    """What porting will take, roughly.

    Attributes:
        seconds: None if there are no examples to time the model on.
        memory: In bytes.
        disk: In bytes, while working; the result alone is a part of it.
    """

    seconds: float | None
    memory: int
    disk: int


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        parameters: Number of weights of the new base.
        weights: Cosine of all weights of the two bases.
        distance: ‖new − old‖ / ‖old‖.
        embeddings: Cosine of their input embeddings, or None.
        reordered: Whether every tensor has the same norm in both, as in another order of units.
        displacement: ‖tuned − old‖ / ‖old‖.
        cka: Mean linear CKA of their hidden states, or None without inputs.
        cost: What porting will take.
        verdict: What it means, in sentences.
    """

    parameters: int
    weights: float
    distance: float
    embeddings: float | None
    reordered: bool
    displacement: float
    cka: float | None
    cost: Cost
    verdict: list[str] = field(default_factory=list[str])

    def numbers(self) -> Mapping[str, str]:
        """Everything but the verdict, as text."""
        seconds = self.cost.seconds
        return {
            "weights": f"{self.parameters:,}",
            "cosine of the bases' weights": f"{self.weights:.3f}",
            "distance of the bases, relative": f"{self.distance:.3f}",
            "cosine of their input embeddings": _or_dash(self.embeddings),
            "CKA of their hidden states": _or_dash(self.cka),
            "displacement of the fine-tune, relative": f"{self.displacement:.4f}",
            "time": "–" if seconds is None else f"about {_duration(seconds)}",
            "memory": f"about {self.cost.memory / 1e9:.2g} GB",
            "disk": f"about {self.cost.disk / 1e9:.2g} GB",
        }


def check(settings: PortSettings) -> Checked:
    """Compare the bases and the fine-tune, tensor by tensor; models run only if there are inputs.

    Raises:
        SettingsError: As `port`.
        FileError: As `port`.
        ParamsError: As `port`.
        DataError: As `port`.
    """
    check_device(settings.device)
    settings = settled(settings)
    if settings.examples is None and settings.unlabelled is None:
        refuse_idle(settings)
    folders = find_folders(settings.old_base, settings.tuned, settings.new_base)
    family = find_family(folders, settings.accept)
    check_weights(folders, family)
    check_tokenizers(load_tokenizer(folders.old_base), load_tokenizer(folders.new_base))
    inputs = _inputs(settings, folders, family)
    cka, seconds = (None, None) if inputs is None else _run(settings, folders, family, inputs)
    model = family.outline()
    with open_checkpoint(folders.old_base) as old, open_checkpoint(folders.new_base) as new:
        names = [name for name in _alike(old, new) if old.outline()[name].is_floating_point()]
        square, apart, same = _compared(old, new, names)
        found = Checked(
            sum(tensor.numel() for tensor in new.outline().values()),
            cosine(old, new, names) or 0.0,
            (apart / square) ** 0.5,
            cosine(old, new, embedding_names(model)),
            same,
            (_displaced(folders, old) / square) ** 0.5,
            cka,
            _cost(settings, new, seconds),
        )
    return replace(found, verdict=[*judge(found), *family.notes, *family.said])


def judge(found: Checked) -> list[str]:
    """Sentences: what the bases are to each other, and what to do about it."""
    if found.distance == 0:
        first = "The bases are the same: use the fine-tune as it is."
    elif found.weights > NEARLY_THE_SAME:
        first = (
            "The new base continues the old one: the identity is probably right. Port with "
            "--method identity, or let examples confirm it."
        )
    elif (found.embeddings or 0.0) > RELATED:
        first = (
            "The bases share their embeddings but little else: the residual stream is held, and "
            "the other units need alignment."
        )
    elif found.reordered:
        first = (
            "Every tensor has the same norm in both bases: the new one looks like the old one in "
            "another order of units. --method weights is exact then, and needs no examples."
        )
    else:
        first = (
            "The bases were trained independently: the identity is noise here. Alignment carries "
            "a part of the fine-tune at best; bring examples, so that a few steps can follow."
        )
    sentences = [first]
    if found.cka is not None:
        alike = "compute much the same" if found.cka > RELATED else "compute different things"
        sentences.append(f"On the given inputs they {alike} (CKA {found.cka:.2f}).")
    is_small = found.displacement < SMALL
    sentences.append(
        f"The fine-tune moves the weights by {found.displacement:.1%} of their norm: "
        + ("small, so a straight line is a fair path." if is_small else "far; expect less of it.")
    )
    return sentences


def _compared(old: Params, new: Params, names: list[str]) -> tuple[float, float, bool]:
    """‖old‖², ‖new − old‖², and whether all norms agree though not all tensors do."""
    square, apart, same = 0.0, 0.0, True
    for name in names:
        x, y = {"": old[name].float()}, {"": new[name].float()}
        ours, theirs, cross = inner(x, x), inner(y, y), inner(x, y)
        square += ours
        apart += max(ours + theirs - 2 * cross, 0.0)
        same &= abs(ours - theirs) <= 2 * SAME_NORMS * ours
    return square, apart, same and apart > 0


def _displaced(folders: Folders, old: Checkpoint) -> float:
    """‖tuned − old‖² over what both have."""
    if folders.is_adapter:
        return sum(map(_squared, displacement(load_adapter(folders.tuned), old).values()))
    with open_checkpoint(folders.tuned) as tuned:
        names = _alike(old, tuned)
        return sum(_squared(tuned[name].float() - old[name].float()) for name in names)


def _alike(a: Checkpoint, b: Checkpoint) -> list[str]:
    """The tensors that both have in one shape; only heads may differ."""
    ours, theirs = a.outline(), b.outline()
    return [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]


def _squared(tensor: Tensor) -> float:
    return inner({"": tensor}, {"": tensor})


def _inputs(settings: PortSettings, folders: Folders, family: Family) -> list[Any] | None:
    """A few inputs in batches as the model takes them, if there are any."""
    reference = settings.examples or settings.unlabelled
    if reference is None:
        return None
    name = task_named(settings.task, family.name)
    inputs = read_inputs(name, reading(settings, reference, folders, family))[:FEW]
    feed = feed_of(name)
    return [feed(piece.to(settings.device)) for piece in inputs.split(settings.micro_batch)]


def _run(
    settings: PortSettings, folders: Folders, family: Family, batches: list[Any]
) -> tuple[float, float]:
    """CKA of the bases, and the seconds that one example takes forwards."""
    states: list[list[Tensor]] = []
    begun = 0.0
    for folder in (folders.old_base, folders.new_base):
        found = load(folder, family, dtype=settings.dtype, device=settings.device)
        begun = time.perf_counter()
        states.append(hidden_states(found.model, found.params, batches))
    count = sum(len(next(iter(batch.values()))) for batch in batches)
    seconds = (time.perf_counter() - begun) / count
    return mean(linear_cka(x, y) for x, y in zip(*states, strict=True)), seconds


def _cost(settings: PortSettings, new: Checkpoint, forward: float | None) -> Cost:
    outline = new.outline()
    stored = sum(tensor.nbytes for tensor in outline.values())
    largest = max(tensor.nbytes for tensor in outline.values())
    if forward is None:
        return Cost(None, 4 * largest, stored)
    width = 2 if settings.dtype == "bfloat16" else 4
    whole = width * sum(tensor.numel() for tensor in outline.values())
    batch, folds, steps = settings.batch_size, max(settings.folds, 1), settings.steps
    matched = 2 * steps * (folds + 1) * batch
    trained = 2 * settings.direct_steps * settings.direct_batch_size
    trained *= folds * len(settings.direct_lrs) + 1
    judged = 2 * (steps + 2) * batch
    seconds = forward * (3 * (matched + trained) + judged)
    return Cost(seconds, (6 + 2 * steps) * whole, stored + (folds + 1 + 2 * steps) * whole)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
