"""Train a network by plain gradient descent on the cross-entropy.

One seed gives one result: it sets the order of examples, crops and flips, and dropout. On a CPU
with the same number of threads the result is the same bit for bit; on a GPU, cuDNN uses its
deterministic kernels only.

Joined processes (`symport.distributed`) share every batch, and train as one process does but for
rounding. BatchNorm sees the share of its process, as in torch's DistributedDataParallel, unless
the model has SyncBatchNorm; its running statistics are averaged. Dropout differs among processes.
"""

import copy
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from symport.distributed import all_reduce_, broadcast_flag, rank, world_size
from symport.errors import DataError, ParamsError, SettingsError
from symport.params import Params
from symport_recipes.data import Dataset, Examples, LazyImages, check_images
from symport_recipes.training import _checkpoint as resuming
from symport_recipes.training._epochs import Epoch, Run
from symport_recipes.training._settings import TrainSettings

Data: TypeAlias = Dataset | Examples | LazyImages | tuple[Tensor, Tensor]

FLOATS_LIMIT = 1 << 30  # bytes; inputs that fit as floats are normalised once, not every pass


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained network.

    Attributes:
        params: State dict, buffers included, on the device and of the dtypes of the initial one.
        history: One entry for each pass; the last pass may have been cut short by `steps`.
        scores: Of the start and after each pass, if a score was asked for.
    """

    params: dict[str, Tensor]
    history: tuple[Epoch, ...]
    scores: tuple[float, ...] = ()


def train(
    model: nn.Module,
    params0: Params,
    data: Data,
    settings: TrainSettings,
    *,
    seed: int,
    recorder: Callable[[dict[str, Tensor]], object] | None = None,
    record_at: Collection[int] = (),
    score: Callable[[Params], float] | None = None,
    progress: Callable[[Epoch], object] | None = None,
    resume: Path | None = None,
    compiled: bool = False,
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
        score: Called with a copy of the state dict at the start and after each pass.
        progress: Called after each pass.
        resume: A file from which an interrupted training continues, with bit-identical results. It
            is written after a pass, at most once a minute, and left to the caller at the end.
            Passes that it holds are neither recorded nor scored again.
        compiled: Let `torch.compile` make the kernels, which changes the rounding. For long
            trainings, as the first step includes the compilation.

    Raises:
        FileError: `resume` cannot be written, or is of another training.
        ParamsError: The weights do not fit the model.
        DataError: Labels are not below the number of outputs, or inputs that are no images are
            to be augmented.
        SettingsError: Training diverged: the loss is no longer finite.
    """
    net = _network(model, params0)
    examples = _prepared(data, next(net.parameters()), augment=settings.augment)
    _check_labels(net, examples)
    run = Run(net.train(), settings, seed, compiled=compiled)
    goes_on = broadcast_flag(resume is not None and resume.exists())
    if resume is not None and goes_on:
        resuming.restore_run_(resume, run)

    watch = _Watch(run, recorder, score, frozenset(record_at))
    if not goes_on:
        watch.start()
    saved = time.perf_counter()
    for epoch in run.passes(examples, watch.after_step):
        _check_finite(epoch)
        watch.after_pass()
        if progress is not None:
            progress(epoch)
        if resume is not None and time.perf_counter() - saved >= resuming.INTERVAL_SECONDS:
            saved = time.perf_counter()
            if rank() == 0:
                resuming.save_run(resume, run)
    return TrainResult(_state(net), tuple(run.history), tuple(run.scores))


@dataclass(frozen=True, eq=False)
class _Watch:
    """Shows copies of the state dict to those who asked for them."""

    run: Run
    recorder: Callable[[dict[str, Tensor]], object] | None
    score: Callable[[Params], float] | None
    record_at: frozenset[int]

    def start(self) -> None:
        self._record()
        self._score()

    def after_step(self, step: int) -> None:
        if step in self.record_at:
            self._record()

    def after_pass(self) -> None:
        if not self.record_at:
            self._record()
        self._score()

    def _record(self) -> None:
        if self.recorder is not None:
            self.recorder(_state(self.run.net))

    def _score(self) -> None:
        if self.score is not None:
            self.run.scores.append(self.score(_state(self.run.net)))


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
    if world_size() > 1:  # those of the first process, should they differ in the last bits
        for tensor in net.state_dict().values():
            all_reduce_([tensor.mul_(0) if rank() else tensor])
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's stubs know it with a dtype only


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
