"""Activations are more tensors with patterns: what each unit answers to the same inputs.

A layer whose outputs move (linear, convolution, normalisation, embedding) gives a tensor
`(samples, units)` of the pattern `. units`. Matching those of two networks is activation matching
(Ainsworth et al. 2023, §3.1), which needs no labels; added to pairs of gradients they steady the
first steps.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import DataError, SpecError
from symport.model._call import call, evaluation
from symport.model._state import state_for
from symport.params import Params
from symport.spec import Axis, Fixed, PermutationSpec, groups_in

MARK = ":output"  # no tensor of a state dict has a colon in its name
MOST = 4096  # rows kept of a layer: its correlations are then good to 1/64
CHANNELS_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)  # pyright: ignore[reportPrivateUsage]


def with_activations(spec: PermutationSpec, model: nn.Module) -> PermutationSpec:
    """The same spec, with a pattern for the outputs of every layer whose units move.

    Raises:
        SpecError: There is no such layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> spec = PermutationSpec.parse(patterns, net.state_dict())
        >>> list(with_activations(spec, net).patterns)[-1]
        '0:output'
    """
    found = {f"{name}{MARK}": (Fixed(), axis) for name, axis in _answering(spec, model).items()}
    if not found:
        raise SpecError("no layer has outputs that move")
    return replace(spec, patterns={**spec.patterns, **found})


def layers_of(spec: PermutationSpec, model: nn.Module) -> dict[str, int]:
    """The layers whose units move, and how many units each has.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> patterns = {"0.weight": "h .", "0.bias": "h", "2.weight": ". h", "2.bias": "."}
        >>> layers_of(PermutationSpec.parse(patterns, net.state_dict()), net)
        {'0': 3}
    """
    counts: dict[str, int] = {}
    for name in _answering(spec, model):
        module = model.get_submodule(name)
        weight = module.weight
        assert isinstance(weight, Tensor)
        counts[name] = weight.shape[_outputs(module) or 0]
    return counts


def rows_of(
    model: nn.Module, params: Params, inputs: Iterable[Any], spec: PermutationSpec
) -> dict[str, int]:
    """How many rows each layer would give: samples, or positions of them.

    Raises:
        DataError: As `activations`.
        ParamsError: As `activations`.
    """
    counts: dict[str, int] = {}

    def count(name: str, rows: Tensor) -> None:
        counts[name] = counts.get(name, 0) + len(rows)

    _listen(model, params, inputs, _answering(spec, model), count)
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
        model: Gives the computation; in evaluation mode, left as found.
        params: A state dict of the model.
        inputs: Batches: a tensor, a tuple of positional or a mapping of keyword arguments each.
        spec: The symmetry of the network.
        layers: Of these layers alone, for less memory at a time.
        rows: What `rows_of` says, so that only the rows that count are held; else all are at first.

    Returns:
        For each layer whose units move, under the names of `with_activations`, a tensor
        `(samples, units)` whose columns have mean 0 and length 1 (0 for a unit that always
        answers the same). Positions of a sequence or an image count as samples; beyond 4096
        they are thinned evenly.

    Raises:
        DataError: There are no inputs, or the model fails on them.
        ParamsError: The parameters do not fit the model.
    """
    names = [name for name in _answering(spec, model) if layers is None or name in layers]
    seen: dict[str, list[Tensor]] = {}
    begun: dict[str, int] = {}

    def collect(name: str, answers: Tensor) -> None:
        if rows is not None:  # the rows that are left in the end, wherever a batch begins
            stride, before = _stride(rows[name]), begun.get(name, 0)
            begun[name] = before + len(answers)
            answers = answers[-before % stride :: stride].clone()
        seen.setdefault(name, []).append(answers)

    _listen(model, params, inputs, names, collect)
    return {f"{name}{MARK}": standardize(torch.cat(seen.pop(name))) for name in list(seen)}


def standardize(rows: Tensor) -> Tensor:
    """Columns of mean 0 and length 1, those that are constant 0; float32 or wider.

    Example:
        >>> standardize(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))[:, 1]
        tensor([0., 0.])
    """
    thinned = rows[:: _stride(len(rows))]
    wide = thinned.to(torch.promote_types(thinned.dtype, torch.float32))
    centred = wide - wide.mean(0)
    length = torch.linalg.vector_norm(centred, dim=0)
    floor = torch.finfo(wide.dtype).eps * torch.linalg.vector_norm(wide, dim=0)
    return torch.where(length > floor, centred / length, 0.0)


def _answering(spec: PermutationSpec, model: nn.Module) -> dict[str, Axis]:
    """The layers whose outputs move, and how."""
    found: dict[str, Axis] = {}
    for name, module in model.named_modules():
        pattern = spec.patterns.get(f"{name}.weight" if name else "weight")
        axis = _outputs(module)
        if pattern is not None and axis is not None and any(True for _ in groups_in(pattern[axis])):
            found[name] = pattern[axis]
    return found


def _outputs(module: nn.Module) -> int | None:
    """Which axis of a layer's weight counts its outputs; None for other modules."""
    weight = getattr(module, "weight", None)
    if isinstance(module, (nn.Linear, *CHANNELS_SECOND)):
        return 0
    if isinstance(module, nn.Embedding) or type(module).__name__ == "Conv1D":  # GPT-2's linear
        return 1
    return 0 if isinstance(weight, Tensor) and weight.ndim == 1 else None  # the other norms


def _stride(rows: int) -> int:
    return -(-rows // MOST)


def _listen(
    model: nn.Module,
    params: Params,
    inputs: Iterable[Any],
    names: Iterable[str],
    hear: Callable[[str, Tensor], None],
) -> None:
    """Call the model on all inputs; what layers answer is heard as `(rows, units)`."""
    state = state_for(model, params)
    hooks = [
        model.get_submodule(name).register_forward_hook(_passing_on(name, hear)) for name in names
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


def _passing_on(name: str, hear: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def collect(module: nn.Module, arguments: object, output: Tensor) -> None:
        del arguments
        channels = 1 if isinstance(module, CHANNELS_SECOND) else -1
        rows = output.detach().movedim(channels, -1)
        hear(name, rows.reshape(-1, rows.shape[-1]))

    return collect
