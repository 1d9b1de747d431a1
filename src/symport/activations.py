"""Activations are more tensors with patterns: what each unit answers to the same inputs.

A layer whose outputs move (linear, convolution, normalisation, embedding) gives a tensor
`(samples, units)` of the pattern `. units`. Matching those of two networks is activation matching
(Ainsworth et al. 2023, §3.1), which needs no labels; added to pairs of gradients they steady the
first steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import DataError, SpecError
from symport.modes import call, evaluation
from symport.params import Params
from symport.pattern import Axis, Fixed, groups_in
from symport.spec import PermutationSpec
from symport.state import state_for

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


def activations(
    model: nn.Module, params: Params, inputs: Iterable[Any], spec: PermutationSpec
) -> dict[str, Tensor]:
    """What every unit answers, standardised, so that inner products are correlations.

    Args:
        model: Gives the computation; in evaluation mode, left as found.
        params: A state dict of the model.
        inputs: Batches: a tensor, a tuple of positional or a mapping of keyword arguments each.
        spec: The symmetry of the network.

    Returns:
        For each layer whose units move, under the names of `with_activations`, a tensor
        `(samples, units)` whose columns have mean 0 and length 1 (0 for a unit that always
        answers the same). Positions of a sequence or an image count as samples; beyond 4096
        they are thinned evenly.

    Raises:
        DataError: There are no inputs, or the model fails on them.
        ParamsError: The parameters do not fit the model.
    """
    seen: dict[str, list[Tensor]] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(_collector(seen, name))
        for name in _answering(spec, model)
    ]
    state = state_for(model, params)
    try:
        with torch.no_grad(), evaluation(model):
            for batch in inputs:
                call(model, state, batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise DataError("there are no inputs: activations need at least one batch")
    return {f"{name}{MARK}": standardised(torch.cat(rows)) for name, rows in seen.items()}


def standardised(rows: Tensor) -> Tensor:
    """Columns of mean 0 and length 1, those that are constant 0; float32 or wider.

    Example:
        >>> standardised(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))[:, 1]
        tensor([0., 0.])
    """
    thinned = rows[:: -(-len(rows) // MOST)]
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


def _collector(seen: dict[str, list[Tensor]], name: str) -> Callable[..., None]:
    def collect(module: nn.Module, arguments: object, output: Tensor) -> None:
        del arguments
        channels = 1 if isinstance(module, CHANNELS_SECOND) else -1
        rows = output.detach().movedim(channels, -1)
        seen.setdefault(name, []).append(rows.reshape(-1, rows.shape[-1]))

    return collect
