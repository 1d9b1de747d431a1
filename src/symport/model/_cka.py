"""The similarity of two networks' representations: linear CKA of their hidden states."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from symport.model._call import call, evaluation, state_for
from symport.params import Params

MOST_ROWS = 2048  # of tokens or patches: the Gram matrices then take 32 MiB each


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centered kernel alignment (Kornblith et al. 2019, eq. 5), in [0, 1].

    It is invariant under rotations and permutations of the units, so it measures whether two
    networks have the same representation, not whether they have it in the same units.

    Args:
        x: Activations of one network, `(samples, units)`.
        y: Activations of the other on the same samples, `(samples, other units)`.

    Returns:
        1 for activations that agree up to a rotation and a factor; 0 if one of them is constant.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
        >>> round(linear_cka(x, 3 * x.flip(1)), 6)
        1.0
    """
    x, y = (side.double() - side.double().mean(0) for side in (x, y))
    grams = x @ x.T, y @ y.T
    norms = float(grams[0].norm() * grams[1].norm())
    return float((grams[0] * grams[1]).sum()) / norms if norms > 0 else 0.0


def hidden_states(model: nn.Module, params: Params, batches: Iterable[Any]) -> list[Tensor]:
    """The hidden states of a model of transformers.

    Args:
        model: The network.
        params: Its tensors.
        batches: Keyword arguments of the model, or its main input alone.

    Returns:
        The hidden states before and after each layer, `(rows, width)` each, with at most 2048 rows
        for tokens or patches; padding is left out.

    Example:
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=16, n_embd=4, n_layer=1, n_head=1))
        >>> states = hidden_states(model, model.state_dict(), [torch.tensor([[1, 2, 3]])])
        >>> [tuple(state.shape) for state in states]
        [(3, 4), (3, 4)]
    """
    state = state_for(model, params)
    kept: list[list[Tensor]] = []
    with torch.no_grad(), evaluation(model):
        for given in batches:
            batch = given if isinstance(given, Mapping) else {str(model.main_input_name): given}
            outputs = call(model, state, {**batch, "output_hidden_states": True})
            mask = batch.get("attention_mask")
            kept.append([_rows(layer, mask) for layer in outputs.hidden_states])
    return [torch.cat(layers)[:MOST_ROWS].cpu() for layers in zip(*kept, strict=True)]


def _rows(layer: Tensor, mask: Tensor | None) -> Tensor:
    rows = layer.flatten(0, -2)
    return rows if mask is None else rows[mask.flatten().bool()]
