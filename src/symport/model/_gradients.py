"""Gradients of a loss at given parameters: counted, and cached along a trajectory."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from symport.distributed import all_reduce_, rank, world_size
from symport.errors import DataError, ParamsError, SettingsError, first_line
from symport.model._activation_checkpointing import blocks_of, recomputing
from symport.model._call import (
    apply,
    batch_statistics,
    describe_shapes,
    state_for,
    to_device,
    within,
)
from symport.model._fsdp import backward, call_sharded, is_sharded, loaded, local
from symport.params import Params, is_finite

Batch: TypeAlias = tuple[Any, Any]
Loss: TypeAlias = Callable[[Any, Any], Tensor]


class Points(Protocol):
    """What gradients need of a trajectory: parameters by step."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> Params: ...


class LossGradient:
    """The gradient of a loss on a fixed sequence of batches.

    Step t uses batch `t mod len(batches)`, for the source as for the target (Algorithm 1, line 4:
    *on the same batch*). BatchNorm uses the statistics of the batch; dropout is off.

    Args:
        model: The network; its own parameters, buffers and modes are not modified.
        loss: `loss(model(inputs), labels)`, a scalar that is a mean over the batch.
        batches: Pairs (inputs, labels). `inputs` may be a tensor, a tuple of positional or a
            mapping of keyword arguments.
        micro_batch: Samples per backward pass; the gradient of a batch is the mean over its parts.
            This needs less memory and gives the same result, except that BatchNorm uses the
            statistics of each part. Several processes (`symport.distributed`) compute a share of
            each batch each and average; the model may be sharded by FSDP2's `fully_shard`.
        activation_checkpointing: Whether the members of the model's lists of layers
            (`nn.ModuleList`) store only their inputs, and recompute the rest in the backward pass.
            This needs far less memory and about a third more time, and gives the same gradients.
        keep: Whether `along` caches the gradients of a trajectory, each as large as the network.
        source_model: The network for the gradients along a trajectory (`along`), if it differs
            from the target's in something other than its tensors, such as rotary embeddings.

    Attributes:
        evaluations: Number of gradients of a whole batch that have been computed so far.
        elapsed_seconds: The time they took.

    Raises:
        DataError: There are no batches, a batch is empty, the model or the loss fails on it, or a
            label is out of range.
        ParamsError: The parameters do not fit the model or are integers, or a gradient is NaN or
            infinite.
        SettingsError: `micro_batch` is below 1, the loss does not return a scalar, or the model
            has no list of layers to recompute.

    Example:
        >>> gradient = LossGradient(
        ...     nn.Linear(1, 1, bias=False), nn.functional.mse_loss, [(torch.ones(1, 1),) * 2]
        ... )
        >>> gradient({"weight": torch.tensor([[3.0]])}, 0)
        {'weight': tensor([[4.]])}
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Sequence[Batch],
        *,
        micro_batch: int | None = None,
        activation_checkpointing: bool = False,
        keep: bool = True,
        source_model: nn.Module | None = None,
    ) -> None:
        if len(batches) == 0:
            raise DataError("there are no batches: matching needs at least one")
        if micro_batch is not None and micro_batch < 1:
            raise SettingsError(f"micro_batch must be at least 1, not {micro_batch}")
        self.model = model
        self.loss = loss
        self.batches = batches
        self.micro_batch = micro_batch
        self.activation_checkpointing = activation_checkpointing and bool(blocks_of(model))
        self.keep = keep
        self.source_model = source_model
        self.evaluations = 0
        self.elapsed_seconds = 0.0
        # By trajectory, a weak reference: its gradients are freed along with it.
        self._known: WeakKeyDictionary[Points, dict[int, dict[str, Tensor]]] = WeakKeyDictionary()

    def __call__(self, params: Params, step: int) -> dict[str, Tensor]:
        """The gradient at `params` on the batch of `step`, by name of each trained parameter."""
        number = step % len(self.batches)
        inputs, labels = self.batches[number]
        total = _size(labels if isinstance(labels, Tensor) and labels.ndim else inputs)
        if total == 0:
            raise DataError(f"batch {number} is empty")
        begun = time.perf_counter()
        pieces = [
            _Piece(_slice(inputs, *span, total), _slice(labels, *span, total), number, span, total)
            for span in self._spans(total)
        ]
        if is_sharded(self.model):
            result = self._sharded(params, pieces)
        else:
            result = self._summed(params, pieces)
            all_reduce_(list(result.values()))  # those of a sharded model are summed already
        self.evaluations += 1
        self.elapsed_seconds += time.perf_counter() - begun
        return _finite(result, number)

    def of_source(self, params: Params, step: int) -> dict[str, Tensor]:
        """The gradient of the source: computed by `source_model`, if there is one."""
        if self.source_model is None:
            return self(params, step)
        begun = time.perf_counter()
        own = copy(self)
        own.model, own.source_model = self.source_model, None
        result = own(params, step)
        self.evaluations += 1
        self.elapsed_seconds += time.perf_counter() - begun
        return result

    def along(self, points: Points) -> "GradientsAlong":
        """The gradients at the points of a trajectory, each computed once.

        With `keep` they are cached for as long as the trajectory exists, so that a transfer from
        one source to many targets computes the source's gradients once.
        """
        known = self._known.setdefault(points, {}) if self.keep else None
        return GradientsAlong(self, points, known)

    def digest(self) -> str:
        """A hash of all batches, by which a resumed run checks that they have not changed."""
        state = hashlib.sha256(str(self.micro_batch).encode())
        for batch in self.batches:
            for tensor in _tensors(batch):
                state.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                flat = (
                    tensor.detach().cpu().contiguous().reshape(-1)
                )  # a tensor without axes has no view as bytes
                state.update(flat.view(torch.uint8).numpy().data)
        return state.hexdigest()

    def _spans(self, total: int) -> list[tuple[int, int]]:
        """The parts of a batch that this process computes; in a single process, all of them."""
        if total < world_size():
            raise DataError(
                f"a batch of {total} samples cannot be shared out among {world_size()} processes; "
                "use larger batches or fewer processes"
            )
        if is_sharded(self.model) and total % world_size():
            raise DataError(
                f"a batch of {total} samples does not divide evenly among {world_size()} "
                "processes, which a sharded model needs; use another batch size"
            )
        first, last = (total * place // world_size() for place in (rank(), rank() + 1))
        size = self.micro_batch or last - first
        return [(begin, min(begin + size, last)) for begin in range(first, last, size)]

    def _summed(self, params: Params, pieces: "Sequence[_Piece]") -> dict[str, Tensor]:
        """Gradients are accumulated in place, so only one set of them is in memory."""
        leaves = self._leaves(state_for(self.model, params))
        for piece in pieces:
            self._piece(params, leaves, piece)
        # A parameter that the loss does not reach has the gradient zero.
        return {
            name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            for name, leaf in leaves.items()
        }

    def _piece(self, params: Params, leaves: dict[str, Tensor], piece: "_Piece") -> None:
        state = {**state_for(self.model, params), **leaves}  # with its own copies of the buffers
        inputs, labels = to_device((piece.inputs, piece.labels), next(iter(leaves.values())))

        def backwards() -> None:
            value = self._value(apply(self.model, state, inputs), labels, piece.number)
            piece.scaled(value).backward(inputs=list(leaves.values()))

        with torch.enable_grad(), self._mode():
            within(self.model, state, backwards)

    def _sharded(self, params: Params, pieces: "Sequence[_Piece]") -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for piece in pieces:
            for name, grad in self._sharded_piece(params, piece).items():
                result[name] = result[name].add_(grad) if name in result else grad
        return result

    def _sharded_piece(self, params: Params, piece: "_Piece") -> dict[str, Tensor]:
        """Scaled to undo the mean that FSDP2 takes over the processes."""
        state = state_for(self.model, params)
        like = local(next(self.model.parameters()))
        inputs, labels = to_device((piece.inputs, piece.labels), like)
        with loaded(self.model, state), self._mode(), torch.enable_grad():
            value = self._value(call_sharded(self.model, inputs), labels, piece.number)
            return backward(self.model, piece.scaled(value) * world_size())

    @contextmanager
    def _mode(self) -> Generator[None]:
        """BatchNorm in training mode, all else in evaluation; checkpointed if asked for."""
        with (
            batch_statistics(self.model),
            recomputing(self.model) if self.activation_checkpointing else nullcontext(),
        ):
            yield

    def _leaves(self, state: Params) -> dict[str, Tensor]:
        """The parameters that the model trains, ready to receive gradients."""
        trained = [name for name, p in self.model.named_parameters() if p.requires_grad]
        if not trained:
            raise ParamsError("the model has no parameter that requires a gradient")
        if odd := [name for name in trained if not state[name].is_floating_point()]:
            raise ParamsError(
                f"{odd[0]}: is of {state[odd[0]].dtype}, which has no gradient; convert the "
                "weights to a floating-point dtype first"
            )
        return {name: state[name].requires_grad_() for name in trained}

    def _value(self, outputs: Any, labels: Any, number: int) -> Tensor:
        try:
            value = self.loss(outputs, labels)
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"batch {number}: the loss failed on outputs {describe_shapes(outputs)} and labels "
                f"{describe_shapes(labels)}: {first_line(error)}{_hint(error)}"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may pass anything
            raise SettingsError(
                f"the loss must return a scalar tensor that depends on the parameters, not "
                f"{describe_shapes(value)}"
            )
        return value


@dataclass(frozen=True, eq=False)
class _Piece:
    """Samples of a batch that pass through the model together.

    Attributes:
        inputs: Of these samples.
        labels: Of these samples.
        number: Index of the batch.
        span: Index of the first sample, and of the first one after the last.
        total: Number of samples in the whole batch.
    """

    inputs: Any
    labels: Any
    number: int
    span: tuple[int, int]
    total: int

    def scaled(self, mean: Tensor) -> Tensor:
        """The contribution of the mean over this part to the mean over the batch."""
        count = self.span[1] - self.span[0]
        return mean * (count / self.total) if count < self.total else mean


class GradientsAlong:
    """Gradients at the points of a trajectory, computed on access and, unless disabled, cached.

    Made by `LossGradient.along`.

    Example:
        >>> model, batch = nn.Linear(1, 1, bias=False), (torch.ones(1, 1),) * 2
        >>> gradient = LossGradient(model, nn.functional.mse_loss, [batch])
        >>> class Fixed(list):  # a list of parameters that can be the key of a cache
        ...     __hash__ = object.__hash__
        >>> points = Fixed([{"weight": torch.tensor([[3.0]])}])
        >>> along = gradient.along(points)
        >>> along[0], 0 in along, gradient.evaluations
        ({'weight': tensor([[4.]])}, True, 1)
    """

    def __init__(
        self, gradient: LossGradient, points: Points, known: dict[int, dict[str, Tensor]] | None
    ) -> None:
        self._gradient = gradient
        self._points = points
        self._known = known

    def __contains__(self, step: object) -> bool:
        """Whether the gradient at a step is cached."""
        return self._known is not None and step in self._known

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if self._known is None:
            return self._gradient.of_source(self._points[step], step)
        if step not in self._known:
            self._known[step] = self._gradient.of_source(self._points[step], step)
        return self._known[step]


def _hint(error: Exception) -> str:
    """On the CPU, cross-entropy raises IndexError for a label that is not a class."""
    is_index = isinstance(error, IndexError)
    return " Are all labels between 0 and the number of classes - 1?" if is_index else ""


def _finite(grads: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    for name, grad in grads.items():
        if not is_finite(local(grad)):
            raise ParamsError(
                f"{name}: the gradient on batch {number} holds NaN or infinity; check the weights "
                "and the inputs, or use a larger batch"
            )
    return grads


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return len(value)
    items = list(value.values() if isinstance(value, Mapping) else value)
    return _size(items[0]) if items else 0


def _slice(value: Any, begin: int, end: int, total: int) -> Any:
    """Samples `begin` to `end` of every tensor that has `total` of them."""
    if isinstance(value, Tensor):
        return value[begin:end] if value.ndim and len(value) == total else value
    if isinstance(value, Mapping):
        return {key: _slice(item, begin, end, total) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_slice(item, begin, end, total) for item in value)
    return value
