"""Train a network by plain gradient descent on the cross-entropy.

One seed gives one result: it sets the order of examples, crops and flips, and dropout. On a CPU
with the same number of threads the result is the same bit for bit; on a GPU, cuDNN is told to use
its deterministic kernels only.
"""

import copy
import math
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from symport.errors import DataError, ParamsError, SettingsError
from symport.params import Params
from symport_recipes.data.batches import batches, check_images
from symport_recipes.data.dataset import Dataset, Examples
from symport_recipes.data.images import LazyImages
from symport_recipes.train_settings import TrainSettings, learning_rate

__all__ = [
    "Data",
    "Epoch",
    "TrainResult",
    "TrainSettings",
    "learning_rate",
    "train",
]

Data: TypeAlias = Dataset | Examples | LazyImages | tuple[Tensor, Tensor]

FLOATS_LIMIT = 1 << 30  # bytes; inputs that fit as floats are normalised once, not every pass


@dataclass(frozen=True)
class Epoch:
    """What happened in one pass over the data.

    Attributes:
        number: Counts from 1.
        steps: Steps taken since the start of training.
        loss: Mean over the examples of the pass, in nats, each seen before its own step.
        lr: Learning rate of its last step.
        elapsed_seconds: Since the start of training.
    """

    number: int
    steps: int
    loss: float
    lr: float
    elapsed_seconds: float


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained network.

    Attributes:
        params: State dict, buffers included, on the device and of the dtypes of the initial one.
        history: One entry for each pass; the last pass may have been cut short by `steps`.
    """

    params: dict[str, Tensor]
    history: tuple[Epoch, ...]


def train(
    model: nn.Module,
    params0: Params,
    data: Data,
    settings: TrainSettings,
    *,
    seed: int,
    recorder: Callable[[dict[str, Tensor]], object] | None = None,
    record_at: Collection[int] = (),
    progress: Callable[[Epoch], object] | None = None,
) -> TrainResult:
    """Train a network from given weights.

    Nothing that is passed in is changed, nor is the global random state: the model is copied.

    Args:
        model: Gives the function; its own weights are not used.
        params0: Its initial state dict. Training runs on the device of these tensors.
        data: A data set (its training half), examples, images that are decoded batch by batch, or
            inputs and labels as a pair.
        settings: Length, rates, optimizer, augmentation.
        seed: Of everything random.
        recorder: Called with a copy of the state dict at the start and after each pass: the
            recorded trajectory θ⁰, θ¹, … .
        record_at: Call the recorder after these steps instead, counted from 1, and at the start.
        progress: Called after each pass.

    Raises:
        ParamsError: The weights do not fit the model.
        DataError: Labels are not below the number of outputs, or inputs that are no images are
            to be augmented.
        SettingsError: Training diverged: the loss is no longer finite.
    """
    net = _network(model, params0)
    examples = _prepared(data, next(net.parameters()), augment=settings.augment)
    _check_labels(net, examples)
    history: list[Epoch] = []
    if recorder is not None:
        recorder(_state(net))

    def after_step(step: int) -> None:
        if recorder is not None and step in record_at:
            recorder(_state(net))

    for epoch in _epochs(net.train(), examples, settings, seed, after_step):
        _check_finite(epoch)
        history.append(epoch)
        if recorder is not None and not record_at:
            recorder(_state(net))
        if progress is not None:
            progress(epoch)
    return TrainResult(_state(net), tuple(history))


def _epochs(
    net: nn.Module,
    examples: Examples | LazyImages,
    settings: TrainSettings,
    seed: int,
    after_step: Callable[[int], object],
) -> Iterator[Epoch]:
    """Train the network in place, pass by pass."""
    start = time.perf_counter()
    optimizer = _optimizer(net, settings)
    order, noise = (torch.Generator().manual_seed(seed) for _ in range(2))
    per_pass = math.ceil(len(examples) / settings.batch_size)
    total = settings.steps or settings.ticks * per_pass
    for number, first in enumerate(range(0, total, per_pass), start=1):
        steps = range(first, min(first + per_pass, total))
        loss = torch.zeros((), dtype=torch.float64, device=examples.labels.device)
        rate, seen = 0.0, 0
        one_pass = _batches(net, examples, settings, order)
        with _isolated(loss.device, noise):
            for step, (inputs, labels) in zip(steps, one_pass, strict=False):
                rate = learning_rate(settings, step if settings.steps else number - 1)
                optimizer.param_groups[0]["lr"] = rate
                mean = _step(net, optimizer, inputs, labels, mixed=settings.mixed_precision)
                loss.add_(mean, alpha=len(labels))
                seen += len(labels)
                after_step(step + 1)
        yield Epoch(number, steps.stop, float(loss) / seen, rate, time.perf_counter() - start)


def _batches(
    net: nn.Module,
    examples: Examples | LazyImages,
    settings: TrainSettings,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    dtype = next(net.parameters()).dtype
    size = settings.batch_size
    return batches(examples, size, generator, augment=settings.augment, dtype=dtype)


def _step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    *,
    mixed: bool,
) -> Tensor:
    """One step in place; returns the loss before it."""
    on_gpu = inputs.device.type == "cuda"
    if inputs.ndim == 4:  # images: faster on CPUs (by a third, measured) and on GPUs
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=on_gpu and mixed):
        loss = cross_entropy(net(inputs), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _optimizer(net: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Fused: one kernel for all tensors. It halves the cost of a small network's Adam step."""
    tensors = [tensor for tensor in net.parameters() if tensor.requires_grad]
    decay = settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(tensors, settings.lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        tensors, settings.lr, momentum=settings.momentum, weight_decay=decay, fused=True
    )


def _network(model: nn.Module, params0: Params) -> nn.Module:
    """A copy of the model with these weights, on their device and of their dtype."""
    like = next((tensor for tensor in params0.values() if tensor.is_floating_point()), None)
    if like is None:
        raise ParamsError("the initial weights hold no float tensor; pass a whole state dict")
    net = copy.deepcopy(model).to(like.device, like.dtype)
    try:
        net.load_state_dict(dict(params0))
    except RuntimeError as error:
        found = " ".join(str(error).split())  # torch's list of differences, on one line
        raise ParamsError(f"the initial weights do not fit the model: {found}") from error
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _prepared(data: Data, like: Tensor, *, augment: bool) -> Examples | LazyImages:
    """The examples on the device of `like`, normalised once if they fit in memory as floats."""
    if isinstance(data, Dataset):
        data = data.train
    if isinstance(data, LazyImages):
        return data.to(like.device)
    examples = (data if isinstance(data, Examples) else Examples(*data)).to(like.device)
    if augment:
        check_images(examples)
        return examples
    fits = examples.inputs.numel() * like.element_size() <= FLOATS_LIMIT
    return examples.normalised(like.dtype) if fits else examples


def _check_labels(net: nn.Module, examples: Examples | LazyImages) -> None:
    """Raise DataError unless the network has an output for every label."""
    dtype = next(net.parameters()).dtype
    with torch.no_grad():
        outputs = net.eval()(examples.take(examples.labels.new_zeros(1)).floats(dtype))
    highest = int(examples.labels.max())
    if outputs.ndim != 2 or highest >= outputs.shape[1]:
        raise DataError(
            f"the highest label is {highest}, the network's output for one input has shape "
            f"{tuple(outputs.shape)}; it must be (1, classes) with more classes than that"
        )


def _check_finite(epoch: Epoch) -> None:
    if not math.isfinite(epoch.loss):
        raise SettingsError(
            f"training diverged: the loss of epoch {epoch.number} is {epoch.loss} "
            f"at learning rate {epoch.lr:g}; lower it"
        )


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }


@contextmanager
def _isolated(device: torch.device, noise: torch.Generator) -> Generator[None]:
    """Seed the global generators, which dropout draws from, and put them back afterwards."""
    seed = int(torch.randint(2**62, (), generator=noise))
    on_gpu = device.type == "cuda"
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if on_gpu else []))
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True))
        yield
