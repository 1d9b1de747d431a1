"""Re-estimate the running statistics of BatchNorm for parameters that were not trained with them.

After weights are permuted, interpolated or displaced, the means and variances of activations no
longer agree with the stored statistics, which degrades the network until they are re-estimated
(Jordan et al. 2023). Chijiwa (2024) does so after every transferred step.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # all kinds' base

from symport.errors import DataError
from symport.model._call import batch_statistics, call, state_for
from symport.params import Params, check_finite

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def has_batchnorm(model: nn.Module) -> bool:
    """Whether any layer of a model has running statistics of BatchNorm.

    Example:
        >>> has_batchnorm(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        True
    """
    return bool(_layers(model))


def reestimate(model: nn.Module, params: Params, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Reset the running statistics of BatchNorm and re-estimate them on the given inputs.

    Each statistic is the mean of that of the batches, as with torch's `momentum=None`: every batch
    has the same weight, whatever its size, and the variance of a batch is the unbiased one.
    Meanwhile BatchNorm uses the statistics of the batch; dropout is off.

    Args:
        model: The network; its own parameters, buffers, momenta and modes are not modified.
        params: A state dict of the model. Never modified.
        batches: Inputs, each of shape `(batch, ...)`; moved to the device of the parameters.

    Returns:
        New tensors by name; only the statistics differ from `params`, and `num_batches_tracked`
        is the number of times the layer ran. A layer that does not run keeps its statistics.

    Raises:
        DataError: There are no batches, or one is not a tensor or too small to have a variance.
        ParamsError: The parameters do not fit the model, or a statistic is NaN or infinite.

    Example:
        >>> model = nn.BatchNorm1d(1)
        >>> state = reestimate(model, model.state_dict(), [torch.tensor([[1.0], [3.0]])])
        >>> state["running_mean"], state["running_var"]
        (tensor([2.]), tensor([2.]))
    """
    result = {name: tensor.detach().clone() for name, tensor in params.items()}
    state = state_for(model, params)
    layers = _layers(model)
    if not layers:
        return result
    before = {name: state[name].clone() for names in layers.values() for name in _buffers(names[0])}
    _reset_(state, layers)
    with torch.no_grad(), batch_statistics(model), _cumulative(model):
        _run(model, state, batches)
    for first, *others in layers.values():
        reached = int(state[_buffers(first)[-1]]) > 0
        found = [(state if reached else before)[name] for name in _buffers(first)]
        for prefix in (first, *others):
            names = zip(_buffers(prefix), found, strict=True)
            result |= {name: value.clone() for name, value in names if name in params}
    check_finite(result, "the re-estimated network")
    return result


def _run(model: nn.Module, state: dict[str, Tensor], batches: Iterable[Tensor]) -> None:
    device = next(iter(state.values())).device
    count = 0
    for batch in batches:
        if not isinstance(batch, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may pass anything
            raise DataError(
                f"batch {count} is of type {type(batch).__name__}, expected a tensor of inputs; "
                "from a loader of pairs pass (inputs for inputs, labels in loader)"
            )
        try:
            call(model, state, batch.to(device))
        except ValueError as error:  # "Expected more than 1 value per channel when training"
            raise DataError(f"batch {count} of shape {tuple(batch.shape)}: {error}") from error
        count += 1
    if count == 0:
        raise DataError("there are no batches to re-estimate BatchNorm on")


def _layers(model: nn.Module) -> dict[_BatchNorm, list[str]]:
    """The names of each BatchNorm layer with running statistics; a shared layer has several."""
    layers: dict[_BatchNorm, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            layers.setdefault(module, []).append(name)
    return layers


def _buffers(layer: str) -> list[str]:
    return [f"{layer}.{name}" if layer else name for name in BUFFERS]


def _reset_(state: dict[str, Tensor], layers: dict[_BatchNorm, list[str]]) -> None:
    for first, *_ in layers.values():
        mean, variance, count = (state[name] for name in _buffers(first))
        mean.zero_()
        variance.fill_(1)
        count.zero_()


@contextmanager
def _cumulative(model: nn.Module) -> Generator[None]:
    layers = _layers(model)
    before = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = None
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
