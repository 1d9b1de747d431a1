"""Activation checkpointing: recompute activations in the backward pass instead of storing them.

Memory then holds the activations between the blocks of a network, and those inside one block at a
time; a gradient takes about a third more time.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from symport.errors import SettingsError


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network: the members of its outermost lists of modules.

    Args:
        model: A network with its layers in a `ModuleList`, as in transformers.

    Raises:
        SettingsError: There is no such list.

    Example:
        >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        >>> len(blocks_of(nn.ModuleDict({"layers": layers})))
        2
    """
    if found := list(_outermost(model)):
        return found
    raise SettingsError(
        f"{type(model).__name__} keeps no layers in a ModuleList, so there are no blocks whose "
        "activations could be recomputed; use smaller pieces of a batch instead (micro_batch)"
    )


@contextmanager
def recomputing(model: nn.Module) -> Generator[None]:
    """Run the body with activation checkpointing of every block, and undo it afterwards.

    The backward pass has to be part of the body, while the model still has the same tensors.
    """
    blocks = list(dict.fromkeys(blocks_of(model)))  # one may be listed twice
    own = [(vars(block), vars(block).get("forward")) for block in blocks]  # of accelerate's hooks
    try:
        for block in blocks:  # below `__call__`, so that the hooks of FSDP2 run once
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        yield
    finally:
        for attributes, forward in own:
            attributes.pop("forward", None)
            if forward is not None:
                attributes["forward"] = forward


def _outermost(module: nn.Module) -> Generator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _outermost(child)
