"""The tensors with which to call a model: checked against it, its own buffers out of reach."""

import torch
from torch import Tensor, nn

from symport.errors import ParamsError
from symport.params import Params, listed


def state_for(model: nn.Module, params: Params) -> dict[str, Tensor]:
    """Everything a call of the model reads, so that nothing of its own shines through.

    Args:
        model: Gives the names and shapes; left as it is.
        params: A state dict of the model, on any device and of any dtype. Of a tensor that has
            several names in the model (tied weights), one is enough.

    Returns:
        Parameters as given and copies of the buffers, which a call may update in place; tied
        tensors under their first name only, as `torch.func.functional_call` wants them.

    Raises:
        ParamsError: A tensor is missing, unknown or of another shape, or tied tensors differ.

    Example:
        >>> state_for(nn.Linear(1, 1, bias=False), {"weight": torch.tensor([[2.0]])})
        {'weight': tensor([[2.]])}
    """
    own = own_tensors(model)
    if unknown := [name for name in params if name not in own]:
        raise ParamsError(f"the model has no tensor {listed(unknown)}")
    tied: dict[int, list[str]] = {}
    for name, tensor in own.items():
        tied.setdefault(id(tensor), []).append(name)
    given = {names[0]: [name for name in names if name in params] for names in tied.values()}
    if missing := [first for first, names in given.items() if not names]:
        raise ParamsError(f"the parameters lack {listed(missing)}, which the model has")
    passing = {name: buffer.clone() for name, buffer in model.named_buffers() if name not in own}
    return passing | {
        first: _one(own[first], {name: params[name] for name in names})
        for first, names in given.items()
    }


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's own parameters and persistent buffers, tied ones under each of their names."""
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _one(own: Tensor, given: Params) -> Tensor:
    """The tensor behind one or several names, a copy if it is a buffer."""
    first, *others = given
    value = given[first].detach()
    if value.shape != own.shape:
        sizes = f"{tuple(value.shape)}, in the model {tuple(own.shape)}"
        raise ParamsError(f"{first}: its shape is {sizes}")
    for other in others:
        if not torch.equal(value, given[other]):
            raise ParamsError(f"{first} and {other} are one tensor in the model, but differ here")
    return value if isinstance(own, nn.Parameter) else value.clone()
