"""Whether a port is promising, by which method, and what it will cost; no labels are needed."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from symport.errors import SymportError
from symport.huggingface import (
    Family,
    Folders,
    ModelFiles,
    check_device,
    check_tokenizers,
    check_weights,
    find_family,
    find_folders,
    load,
    load_tokenizer,
    open_models,
)
from symport.io import Checkpoint
from symport.lora import displacement, load_adapter
from symport.model import hidden_states, linear_cka
from symport.params import Params
from symport.port._alignment import find_spec
from symport.port._ancestry import cosine, embedding_names
from symport.port._cost import Cost, Matching, estimate, fits_training, matching_of, speed_of
from symport.port._outlook import tried, untried
from symport.port._refusals import refuse_unused, resolve_method
from symport.port._relatedness import Kinship, kinship
from symport.port._settings import PortSettings
from symport.port._with_examples import FEWEST, in_dtype, load_all, problem_of, reading
from symport.spec import PermutationSpec
from symport.tasks import feed_of, make_task, read_examples, read_inputs, resolve_task

FEW = 32  # inputs that activations are compared on
SAME_NORMS = 1e-4  # relative: a permutation keeps the norm of each tensor, up to rounding
SIMILAR = 0.5  # CKA of hidden states: that of independent bases of one kind is often above 0
SMALL = 0.1  # of the weights' norm; fine-tunes of language models are usually below 0.01
TOO_LARGE = (
    "The memory that is free here does not hold three models and their training, so training was "
    "not tried: the time is a rough estimate, and the port needs a larger machine."
)
CHUNK = 2**18  # elements of a tensor that are read at a time: what fits into the processor's cache


@dataclass(frozen=True)
class Checked:
    """What `check_port` found.

    Attributes:
        parameters: Number of weights of the new base.
        weights: Cosine of the two bases' matrices: no vectors, such as those of norms, no buffers.
        distance: ‖new − old‖ / ‖old‖.
        embeddings: Cosine of their input embeddings, or None.
        same_norms: Whether every tensor has the same norm in both, as after a permutation of units.
        kinship: Which units of the old base were found in the new one, and where.
        displacement: ‖tuned − old‖ / ‖old‖.
        cka: Mean linear CKA of their hidden states, or None without inputs.
        cost: Time, memory and disk that the port will take.
        verdict: What this means, in sentences.

    Example:
        `models` maps `old_base`, `tuned` and `new_base` to folders of a tiny GPT-2:

        >>> from symport.port import make_settings
        >>> found = check_port(make_settings({**models, "out": folder / "port"}))
        >>> found.displacement < 0.1, found.numbers()["weights"]
        (True, '348')
    """

    parameters: int
    weights: float
    distance: float
    embeddings: float | None
    same_norms: bool
    kinship: Kinship
    displacement: float
    cka: float | None
    cost: Cost
    verdict: list[str] = field(default_factory=list[str])

    def numbers(self) -> Mapping[str, str]:
        """Everything but the verdict, as text."""
        kin = self.kinship
        return {
            "weights": f"{self.parameters:,}",
            "units looked for": f"{kin.units:,}",
            "found where they stood": f"{kin.stay:.0%}" if kin.units else "–",
            "found elsewhere": f"{kin.moved:.0%}" if kin.can_move else "–",
            "cosine of the bases' matrices": f"{self.weights:.3f}",
            "distance of the bases, relative": f"{self.distance:.3f}",
            "cosine of their input embeddings": _or_dash(self.embeddings),
            "CKA of their hidden states": _or_dash(self.cka),
            "displacement of the fine-tune, relative": f"{self.displacement:.4f}",
            "time": _time(self.cost),
            "memory": f"about {self.cost.memory / 1e9:.2g} GB",
            "disk": f"about {self.cost.disk / 1e9:.2g} GB",
        }


def check_port(settings: PortSettings) -> Checked:
    """Compare the bases and the fine-tune, tensor by tensor; models run only if there are inputs.

    Args:
        settings: Of the port; nothing is written to its `out`.

    Raises:
        SettingsError: A model is quantized or of another architecture, a package is missing, or a
            setting has no effect.
        FileError: A file is missing or damaged.
        ParamsError: Shapes, vocabularies or tokenizers differ, or a tensor holds NaN.
        DataError: An example is not what the task needs.

    Example:
        `models` maps `old_base`, `tuned` and `new_base` to folders of a tiny GPT-2:

        >>> from symport.port import make_settings
        >>> found = check_port(make_settings({**models, "out": folder / "port"}))
        >>> found.verdict[1]
        'The fine-tune moves the weights by ...% of their norm: small, so that linear ...'
    """
    check_device(settings.device)
    settings = resolve_method(settings)
    if settings.examples is None and settings.unlabelled is None:
        refuse_unused(settings)
    folders = find_folders(settings.old_base, settings.tuned, settings.new_base)
    family = check_weights(folders, find_family(folders, settings.accept))
    check_tokenizers(load_tokenizer(folders.old_base), load_tokenizer(folders.new_base))
    inputs = _inputs(settings, folders, family)
    cka = None if inputs is None else _cka(settings, folders, family, inputs)
    model = family.outline()
    learned = {name for name, _ in model.named_parameters()}
    with open_models(folders, family) as files:
        old, new = files.old.tensors, files.new.tensors
        names = [name for name in old if name in new and name in learned]
        apart = _compared(old, new, names)
        found = Checked(
            sum(tensor.numel() for tensor in new.outline().values()),
            apart.cosine,
            (apart.apart / apart.square) ** 0.5,
            cosine(old, new, embedding_names(model)),
            apart.same_norms,
            kinship(old, new, family) if apart.apart else Kinship(()),
            (_displaced(folders, family, files) / apart.square) ** 0.5,
            cka,
            _cost(settings, folders, family, files),
        )
    return replace(
        found, verdict=[*verdict_of(found), *found.cost.notes, *family.notes, *family.remarks]
    )


def verdict_of(found: Checked) -> list[str]:
    """Sentences: how the bases are related, and which port to choose."""
    sentences = [_relation(found)]
    if found.cka is not None:
        similar = "similar" if found.cka > SIMILAR else "different"
        sentences.append(
            f"On the given inputs their hidden states are {similar} (CKA {found.cka:.2f})."
        )
    is_small = found.displacement < SMALL
    sentences.append(
        f"The fine-tune moves the weights by {found.displacement:.1%} of their norm: "
        + (
            "small, so that linear interpolation is a good trajectory."
            if is_small
            else "large, so that linear interpolation may be a poor trajectory."
        )
    )
    return sentences


def _relation(found: Checked) -> str:
    """How the bases are related: by their units first, since cosines depend on the order."""
    kin = found.kinship
    if found.distance == 0:
        return "The bases are the same: use the fine-tune as it is."
    if kin.relation == "reordered":
        exact = "--method weights is exact then, and needs no examples."
        further = "--method weights finds their places; let examples confirm it."
        return (
            f"The new base is the old one in another order of units: {kin.moved:.0%} of those that "
            "were looked for are at another place"
            + (
                f", and every tensor has the same norm. {exact}"
                if found.same_norms
                else f", {kin.stay:.0%} where they stood, and it was trained further. {further}"
            )
        )
    if kin.relation == "continued":
        return (
            f"The new base continues the old one: {kin.stay:.0%} of the units that were looked for "
            "are at the same place. The identity is probably right: port with --method identity, "
            "or let examples confirm it."
        )
    if kin.relation == "only stream":
        return (
            "The bases share their embeddings but little else: the residual stream is fixed, and "
            "the other units need alignment. Bring examples (--examples)."
        )
    if found.same_norms:  # no symmetry is known to look for units by
        return (
            "Every tensor has the same norm in both bases: the new one looks like the old one in "
            "another order of units. --method weights is exact then, and needs no examples."
        )
    reason = f" Another order could not be looked for: {kin.obstacle}." if kin.obstacle else ""
    return (
        "The bases were trained independently, as far as their weights show: the identity is no "
        "better than chance. Alignment transfers a part of the fine-tune at best; bring examples "
        f"(--examples), so that a few steps can follow.{reason}"
    )


@dataclass(frozen=True)
class _Apart:
    """How far two bases are apart: ‖old‖², ‖new − old‖², the cosine, and whether norms agree."""

    square: float
    apart: float
    cosine: float
    same_norms: bool


def _compared(old: Checkpoint, new: Checkpoint, names: Collection[str]) -> _Apart:
    """Compare some tensors, a piece at a time."""
    square, apart, same = 0.0, 0.0, True
    matrices = [0.0, 0.0, 0.0]
    for name in names:
        sums = [0.0, 0.0, 0.0]
        for x, y in zip(_pieces(old, name), _pieces(new, name), strict=True):
            ours, theirs, between = _squared(x), _squared(y), _squared(y - x)
            cross = (ours + theirs - between) / 2  # the product would need both in float64
            sums = [sums[0] + ours, sums[1] + theirs, sums[2] + cross]
            apart += between
        square += sums[0]
        same &= abs(sums[0] - sums[1]) <= 2 * SAME_NORMS * sums[0]
        if len(old.outline()[name].shape) > 1:
            matrices = [a + b for a, b in zip(matrices, sums, strict=True)]
    size = (matrices[0] * matrices[1]) ** 0.5
    return _Apart(square, apart, matrices[2] / size if size else 0.0, same and apart > 0)


def _displaced(folders: Folders, family: Family, files: ModelFiles) -> float:
    """‖tuned − old‖² over what both have."""
    old = files.old.tensors
    if files.tuned is None:
        adapter = load_adapter(folders.tuned, family.ties)
        return sum(map(_squared, displacement(adapter, old).values()))
    tuned = files.tuned.tensors
    return sum(
        _squared(theirs - ours)
        for name in old
        if name in tuned and old.outline()[name].is_floating_point()
        for ours, theirs in zip(_pieces(old, name), _pieces(tuned, name), strict=True)
    )


def _pieces(tensors: Checkpoint, name: str) -> Iterator[Tensor]:
    """A tensor in float32, some of its rows at a time."""
    shape = tensors.outline()[name].shape
    if not shape:
        yield tensors[name].float()
        return
    step = max(CHUNK // max(shape[1:].numel(), 1), 1)
    for start in range(0, shape[0], step):
        yield tensors.rows(name, start, min(start + step, shape[0])).float()


def _squared(tensor: Tensor) -> float:
    """The sum of squares, in float64, without a copy in float64."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


def _inputs(settings: PortSettings, folders: Folders, family: Family) -> list[Any] | None:
    """A few inputs in batches as the model takes them, if there are any."""
    reference = settings.examples or settings.unlabelled
    if reference is None:
        return None
    name = resolve_task(settings.task, family.name)
    inputs = read_inputs(name, reading(settings, reference, folders, family))[:FEW]
    feed = feed_of(name)
    return [feed(piece.to(settings.device)) for piece in inputs.split(settings.micro_batch)]


def _cka(settings: PortSettings, folders: Folders, family: Family, batches: list[Any]) -> float:
    """The mean CKA of the bases' hidden states."""
    states: list[list[Tensor]] = []
    sides = ((folders.old_base, family.of_source()), (folders.new_base, family))
    for folder, kind in sides:
        found = load(folder, kind, dtype=settings.dtype, device=settings.device)
        states.append(hidden_states(found.model, found.params, batches))
    return mean(linear_cka(x, y) for x, y in zip(*states, strict=True))


def _cost(settings: PortSettings, folders: Folders, family: Family, files: ModelFiles) -> Cost:
    """With examples the model is timed on a few of them; without, tensors pass one at a time."""
    old, new = files.old.tensors, files.new.tensors
    outline = new.outline()
    stored = sum(tensor.nbytes for tensor in outline.values())
    if settings.examples is None:
        return Cost(None, 4 * max(tensor.nbytes for tensor in outline.values()), stored)
    if folders.is_adapter:
        stored = sum(path.stat().st_size for path in folders.tuned.glob("*.safetensors"))
    name = resolve_task(settings.task, family.name)
    read = read_examples(name, reading(settings, settings.examples, folders, family))
    examples = in_dtype(read.examples, settings.dtype)
    task = make_task(name, settings.loss)
    piece = examples.take(torch.arange(min(settings.micro_batch, len(examples))))
    spec = _symmetry(settings, family, old, new)
    shapes = dict(family.outline().named_parameters())
    trains = bool(settings.folds and settings.direct_steps)
    fits = fits_training(settings, sum(tensor.numel() for tensor in outline.values()))
    if trains and fits:
        found = load_all(folders, family, settings)
        model, params = found.model, found.new
    else:
        base = load(folders.new_base, family, dtype=settings.dtype, device=settings.device)
        found, model, params = None, base.model.requires_grad_(True), base.params
    if found is None or spec is None or len(examples) < FEWEST:
        outlook = untried(settings)
    else:
        parts = examples.split(settings.held_out, settings.seed)
        outlook = tried(problem_of(settings, (found, files), spec, task, parts), settings)
    cost = estimate(
        settings,
        len(examples),
        params,
        speed_of(
            model, params, task, piece, activation_checkpointing=settings.activation_checkpointing
        ),
        _matching(spec, shapes),
        outlook,
        has_activations=settings.activations == "yes"
        or (settings.activations == "auto" and bool(files.new_heads)),
        stored=stored,
    )
    return cost if fits or not trains else replace(cost, notes=(TOO_LARGE,))


def _symmetry(
    settings: PortSettings, family: Family, old: Params, new: Params
) -> PermutationSpec | None:
    """The symmetry; None if it is not found, which is an error of the port itself."""
    try:
        return find_spec(family.outline(), family, old, new, settings.fix_residual)
    except SymportError:
        return None


def _matching(spec: PermutationSpec | None, shapes: Params) -> Matching:
    """How large the matching is; without a symmetry, as if every matrix were kept."""
    if spec is None:
        return Matching(kept=sum(t.numel() for t in shapes.values() if t.ndim > 1))
    return matching_of(spec, shapes)


def _time(cost: Cost) -> str:
    if cost.seconds is None:
        return "–"
    most = cost.most_seconds or cost.seconds
    bound = f", at most {_duration(most)}" if most > 1.2 * cost.seconds else ""
    return f"about {_duration(cost.seconds)}{bound}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
