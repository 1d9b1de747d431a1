"""The cost of a port: counts of evaluations times the cost of one, timed on this machine.

On the CPU, seconds are processor time. How long training helps is known only once it has been
tried, so the estimate lies between curves that end early and curves that never do.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from symport.data import Labelled
from symport.matching import cut
from symport.memory import available
from symport.methods import takes
from symport.model import LossGradient, call, evaluation, state_for, to_device
from symport.params import Params, wide_dtype
from symport.port._counts import Counts, Course, counts
from symport.port._outlook import Outlook, untried
from symport.port._settings import PortSettings
from symport.selection import Task, TaskBatches
from symport.spec import PermutationSpec

REPEATS = 2  # the lesser is taken, after a first call that is not timed
SOLVING = 4.0  # products of a pair and all its corrections, over those of the pair alone; measured
PASSES = 6  # over a network's tensors to lay it out, and to look whether it is finite
INTERPRETER = 600_000_000  # bytes: Python, torch, transformers, scipy and numba, measured
START = 12.0  # seconds: their imports, and compiling the assignment
DOUBLE = 10  # bytes for each weight while the symmetry is proven in float64


@dataclass(frozen=True)
class Cost:
    """The approximate cost of a port.

    Attributes:
        seconds: None if there are no examples to time the model on.
        memory: In bytes.
        disk: In bytes, while training; the result alone is a part of it.
        most_seconds: If training helps up to its last step.
        notes: Sentences on how the estimate was made.
    """

    seconds: float | None
    memory: int
    disk: int
    most_seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speed:
    """The cost of one evaluation on this machine, timed.

    Attributes:
        forward: Seconds an example.
        gradient: Seconds an example, forward and backward.
        product: Seconds a multiply-add of a matrix product.
        touch: Seconds a byte that is read and written once.
        train: Seconds a step of the optimizer.
        saved: Bytes of activations that a micro-batch keeps for its backward pass.
    """

    forward: float
    gradient: float
    product: float
    touch: float
    train: float
    saved: int


@dataclass(frozen=True)
class Matching:
    """How large the matching of one pair is.

    Attributes:
        kept: Elements of each side that several groups move, which stay in memory.
        similarities: Elements of all similarities.
        products: Multiply-adds to add a pair.
    """

    kept: int = 0
    similarities: int = 0
    products: int = 0


def matching_of(spec: PermutationSpec, outline: Params) -> Matching:
    """How large the matching is under a symmetry.

    Args:
        spec: The symmetry.
        outline: Shapes of the network's tensors.

    Example:
        >>> spec = PermutationSpec.parse({"w": "a b", "v": "a ."}, sizes={"a": 2, "b": 3})
        >>> matching_of(spec, {"w": torch.zeros(2, 3), "v": torch.zeros(2, 5)})
        Matching(kept=6, similarities=13, products=50)
    """
    kept = products = 0
    facets: dict[tuple[str, ...], int] = {}
    for name in spec.patterns.keys() & outline.keys():
        if name in spec.buffers:
            continue
        for part in cut(name, tuple(outline[name].shape), spec):
            elements = _elements(part.factors)
            products += sum(elements * slot.size for slot in part.slots)
            kept += elements if len(part.slots) > 1 else 0
            facets |= {slot.facet: slot.size**2 for slot in part.slots}
    return Matching(kept, sum(facets.values()), products)


def speed_of(
    model: nn.Module,
    params: Params,
    task: Task,
    piece: Labelled,
    *,
    activation_checkpointing: bool = False,
) -> Speed:
    """Time one forward pass, one gradient and one step on a few examples.

    Args:
        model: Gives the computation.
        params: Its tensors; left as they are.
        task: How inputs enter it, and its losses.
        piece: A micro-batch of examples.
        activation_checkpointing: Whether the port recomputes activations in the backward pass.
    """
    state = state_for(model, params)
    like = next(iter(state.values()))
    inputs, labels = to_device((task.feed(piece.inputs), piece.labels), like)

    def forward() -> None:
        with torch.no_grad(), evaluation(model):
            task.losses(call(model, state, inputs), labels)

    slope = LossGradient(
        model,
        lambda outputs, labels: task.losses(outputs, labels).mean(),
        TaskBatches([(piece.inputs, piece.labels)], task.feed),
        activation_checkpointing=activation_checkpointing,
    )
    saved = _saved(lambda: slope(params, 0))
    trained = [nn.Parameter(torch.zeros(2**22, device=like.device))]
    trained[0].grad = torch.zeros_like(trained[0])
    adam = torch.optim.Adam(trained, lr=0.0, fused=like.device.type in ("cpu", "cuda") or None)
    square = torch.zeros(1024, 1024, device=like.device)
    block = torch.zeros(2**23, device=like.device)
    size = sum(tensor.numel() for tensor in params.values())
    return Speed(
        _seconds(forward, like) / len(piece),
        _seconds(lambda: slope(params, 0), like) / len(piece),
        _seconds(lambda: square @ square, like) / 1024**3,
        _seconds(lambda: block + block, like) / block.nbytes,
        _seconds(adam.step, like) / trained[0].numel() * size,
        saved,
    )


def estimate(
    settings: PortSettings,
    examples: int,
    outline: Params,
    speed: Speed,
    matching: Matching,
    outlook: Outlook,
    *,
    has_activations: bool,
    stored: int,
) -> Cost:
    """The cost of a port with examples.

    Args:
        settings: Of the port.
        examples: How many there are.
        outline: The network's tensors, shapes alone.
        speed: The cost of one evaluation.
        matching: How large the matching is; empty if nothing is matched.
        outlook: Between which numbers of steps training ends.
        has_activations: Whether activations count in the matching.
        stored: Bytes of the result.
    """
    held_out = round(settings.held_out * examples)
    training = examples - held_out
    weights = sum(tensor.numel() for tensor in outline.values())
    dtype = getattr(torch, settings.dtype)
    whole, kept_wide = weights * dtype.itemsize, weights * wide_dtype(dtype).itemsize

    def seconds(lasts: Sequence[int], finals: Sequence[int]) -> float:
        course = Course.with_curves(settings, lasts, finals)
        is_matched = settings.method in ("fgmt", "gmt")
        found = counts(settings, training, held_out, course, fgmt=is_matched)
        extra = 3 * examples + (5 * training if has_activations else 0)
        return _seconds_of(found, extra, speed, matching, kept_wide)

    kept = 0
    if takes(settings.method, "gradient"):
        width = 2 if settings.pairs_dtype == "bfloat16" else getattr(torch, settings.dtype).itemsize
        kept = 2 * settings.steps * matching.kept * width
        kept += 2 * settings.steps * whole if settings.method == "gmt" else 0
    gains = 4 * matching.similarities if has_activations else 0
    matched = kept + 2 * 8 * matching.similarities + 3 * whole
    trained = training_bytes(settings, weights) if settings.folds and settings.direct_steps else 0
    proven = DOUBLE * weights
    memory = 3 * whole + max(proven, gains + speed.saved + max(matched, trained)) + INTERPRETER
    least = seconds(outlook.least, [few for few, _ in outlook.finals])
    most = seconds(outlook.most, [many for _, many in outlook.finals])
    never = untried(settings)  # one fold does not bound the others
    bound = seconds(never.most, [many for _, many in never.finals])
    return Cost((least * most) ** 0.5, memory, stored, bound)


def training_bytes(settings: PortSettings, weights: int) -> int:
    """The memory of direct training besides the models: weights, two moments, and the gradient.

    Example:
        >>> files = {"old_base": "a", "tuned": "b", "new_base": "c", "out": "d"}
        >>> training_bytes(PortSettings(**files, dtype="bfloat16"), 1)
        18
    """
    dtype = getattr(torch, settings.dtype)
    narrow, wide = weights * dtype.itemsize, weights * wide_dtype(dtype).itemsize
    return 4 * wide + (narrow if narrow < wide else 0)


def fits_training(settings: PortSettings, weights: int) -> bool:
    """Whether three models and their training fit into the memory that is free on this machine."""
    free = available()
    models = 3 * weights * getattr(torch, settings.dtype).itemsize
    return free is None or models + training_bytes(settings, weights) < free


def _seconds_of(found: Counts, extra: int, speed: Speed, matching: Matching, whole: int) -> float:
    return (
        START
        + found.gradients * speed.gradient
        + (found.forwards + extra) * speed.forward
        + found.matched * SOLVING * matching.products * speed.product
        + found.trained * speed.train
        + found.placed * PASSES * whole * speed.touch
    )


def _seconds(run: Callable[[], object], like: Tensor) -> float:
    """The least time of a few calls: processor time on the CPU."""
    clock = time.process_time if like.device.type == "cpu" else time.perf_counter
    taken: list[float] = []
    for _ in range(1 + REPEATS):
        begun = clock()
        run()
        if like.device.type == "cuda":
            torch.cuda.synchronize(like.device)
        taken.append(clock() - begun)
    return min(taken[1:])


def _saved(run: Callable[[], object]) -> int:
    """The bytes saved for the backward pass, each block of memory once."""
    blocks: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not tensor.is_leaf:
            blocks[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(blocks.values())


def _elements(factors: tuple[int, ...]) -> int:
    total = 1
    for factor in factors:
        total *= factor
    return total
