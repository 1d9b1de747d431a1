"""Activations as tensors with patterns, for matching by activations.

The outputs of a layer whose units move (linear, convolution, normalisation, embedding) are a tensor
`(samples, units)` with the pattern `. units`. Matching those of two networks is activation matching
(Ainsworth et al. 2023, §3.1), which needs no labels; added to pairs of gradients they stabilise the
first steps.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import DataError, SpecError
from symport.model._call import call, evaluation, state_for
from symport.params import Params
from symport.spec import Axis, Fixed, PermutationSpec, groups_in

MARK = ":output"  # no tensor of a state dict has a colon in its name
MOST = 4096  # rows of a layer: the standard error of a correlation is then 1/64
CHANNELS_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)  # pyright: ignore[reportPrivateUsage]  # all kinds' bases


def with_activations(spec: PermutationSpec, model: nn.Module) -> PermutationSpec:
    """Add a pattern for the outputs of every layer whose units move to a spec.

    Raises:
        SpecError: There is no such layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> spec = PermutationSpec.parse(patterns, net.state_dict())
        >>> list(with_activations(spec, net).patterns)[-1]
        '0:output'
    """
    found = {f"{name}{MARK}": (Fixed(), axis) for name, axis in _moving_layers(spec, model).items()}
    if not found:
        raise SpecError("no layer has outputs that move")
    return replace(spec, patterns={**spec.patterns, **found})


def layers_of(spec: PermutationSpec, model: nn.Module) -> dict[str, int]:
    """The number of units of each layer whose units move.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> layers_of(PermutationSpec.parse(patterns, net.state_dict()), net)
        {'0': 3}
    """
    counts: dict[str, int] = {}
    for name in _moving_layers(spec, model):
        module = model.get_submodule(name)
        weight = module.weight
        assert isinstance(weight, Tensor)
        counts[name] = weight.shape[_outputs(module) or 0]
    return counts


def rows_of(
    model: nn.Module, params: Params, inputs: Iterable[Any], spec: PermutationSpec
) -> dict[str, int]:
    """The number of rows of each layer's activations: samples, times positions in a sample.

    Args:
        model: The network, as for `activations`.
        params: A state dict of the model.
        inputs: Batches.
        spec: The symmetry of the network.

    Raises:
        DataError: There are no inputs, or the model fails on them.
        ParamsError: The parameters do not fit the model.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> spec = PermutationSpec.parse(patterns, net.state_dict())
        >>> rows_of(net, net.state_dict(), [torch.zeros(5, 2), torch.zeros(4, 2)], spec)
        {'0': 9}
    """
    counts: dict[str, int] = {}

    def count(name: str, rows: Tensor) -> None:
        counts[name] = counts.get(name, 0) + len(rows)

    _observe(model, params, inputs, _moving_layers(spec, model), count)
    return counts


def activations(
    model: nn.Module,
    params: Params,
    inputs: Iterable[Any],
    spec: PermutationSpec,
    *,
    layers: Collection[str] | None = None,
    rows: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """What every unit answers, standardize, so that inner products are correlations.

    Args:
        model: The network, which is run in evaluation mode and not modified.
        params: A state dict of the model.
        inputs: Batches: a tensor, a tuple of positional or a mapping of keyword arguments each.
        spec: The symmetry of the network.
        layers: Names of the layers to return, to bound the memory; None for all.
        rows: The result of `rows_of`, with which rows that are not returned are never stored.

    Returns:
        For each layer whose units move, by the names of `with_activations`, a tensor
        `(samples, units)` whose columns have mean 0 and norm 1 (norm 0 for a constant unit).
        Positions of a sequence or an image count as samples; at most 4096, evenly spaced.

    Raises:
        DataError: There are no inputs, or the model fails on them.
        ParamsError: The parameters do not fit the model.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> spec = PermutationSpec.parse(patterns, net.state_dict())
        >>> params = {**net.state_dict(), "0.weight": torch.ones(1, 1)}
        >>> activations(net, params, [torch.tensor([[0.0], [2.0]])], spec)
        {'0:output': tensor([[-0.7071],
                [ 0.7071]])}
    """
    names = [name for name in _moving_layers(spec, model) if layers is None or name in layers]
    seen: dict[str, list[Tensor]] = {}
    begun: dict[str, int] = {}

    def collect(name: str, outputs: Tensor) -> None:
        if rows is not None:  # only the evenly spaced rows that are returned
            stride, before = _stride(rows[name]), begun.get(name, 0)
            begun[name] = before + len(outputs)
            outputs = outputs[-before % stride :: stride].clone()
        seen.setdefault(name, []).append(outputs)

    _observe(model, params, inputs, names, collect)
    return {f"{name}{MARK}": standardize(torch.cat(seen.pop(name))) for name in list(seen)}


def standardize(rows: Tensor) -> Tensor:
    """Shift and scale columns to mean 0 and norm 1; constant columns become 0.

    Args:
        rows: Shape `(rows, units)`; of more than 4096 rows, evenly spaced ones are taken.

    Returns:
        Shape `(at most 4096, units)`, in at least float32.

    Example:
        >>> standardize(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))[:, 1]
        tensor([0., 0.])
    """
    thinned = rows[:: _stride(len(rows))]
    wide = thinned.to(torch.promote_types(thinned.dtype, torch.float32))
    centred = wide - wide.mean(0)
    norm = torch.linalg.vector_norm(centred, dim=0)
    floor = torch.finfo(wide.dtype).eps * torch.linalg.vector_norm(wide, dim=0)
    return torch.where(norm > floor, centred / norm, 0.0)


def _moving_layers(spec: PermutationSpec, model: nn.Module) -> dict[str, Axis]:
    """The layers whose outputs move, each with the term of its units."""
    found: dict[str, Axis] = {}
    for name, module in model.named_modules():
        pattern = spec.patterns.get(f"{name}.weight" if name else "weight")
        axis = _outputs(module)
        if pattern is not None and axis is not None and any(True for _ in groups_in(pattern[axis])):
            found[name] = pattern[axis]
    return found


def _outputs(module: nn.Module) -> int | None:
    """The axis of a layer's weight that runs over its outputs; None for other modules."""
    weight = getattr(module, "weight", None)
    if isinstance(module, (nn.Linear, *CHANNELS_SECOND)):
        return 0
    if isinstance(module, nn.Embedding) or type(module).__name__ == "Conv1D":  # GPT-2's linear
        return 1
    return 0 if isinstance(weight, Tensor) and weight.ndim == 1 else None  # the other norms


def _stride(rows: int) -> int:
    return -(-rows // MOST)


def _observe(
    model: nn.Module,
    params: Params,
    inputs: Iterable[Any],
    names: Iterable[str],
    receive: Callable[[str, Tensor], None],
) -> None:
    """Call the model on all inputs, and `receive` with the outputs of layers, `(rows, units)`."""
    state = state_for(model, params)
    hooks = [
        model.get_submodule(name).register_forward_hook(_forwarding(name, receive))
        for name in names
    ]
    count = 0
    try:
        with torch.no_grad(), evaluation(model):
            for batch in inputs:
                call(model, state, batch)
                count += 1
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        raise DataError("there are no inputs: activations need at least one batch")


def _forwarding(name: str, receive: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def collect(module: nn.Module, arguments: object, output: Tensor) -> None:
        del arguments
        channels = 1 if isinstance(module, CHANNELS_SECOND) else -1
        rows = output.detach().movedim(channels, -1)
        receive(name, rows.reshape(-1, rows.shape[-1]))

    return collect
