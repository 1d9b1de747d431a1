"""Read what works in place as an ordinary operation, where nothing else sees what it overwrites.

torch can rewrite every in-place operation of an exported program, but traces all of it once more,
which takes most of the time of a discovery. A ReLU that overwrites the result of a convolution,
which nobody else reads, needs no rewriting.
"""

from typing import Any, cast

import torch
from torch import fx
from torch._C import DispatchKey
from torch._ops import OpOverload

# Results that are never a view of another tensor (those of a dropout are, in evaluation mode).
OWN = {"conv1d", "conv2d", "conv3d", "linear", "batch_norm", "group_norm", "add", "mul", "cat"}
VIEWS = {"reshape", "flatten", "unflatten", "contiguous", "to", "chunk"}  # that rules know


def ordinary(node: fx.Node) -> Any:
    """What a node calls, as an operation that rules can follow.

    Returns:
        Its own target, or the operation that does the same but not in place; None if it works in
        place on what others may see, or is a view that is made of others.
    """
    op = cast("Any", node.target)
    if not isinstance(op, OpOverload):
        return op
    schema = cast("Any", op)._schema
    if schema.is_mutable:
        return _elsewhere(op) if _overwrites_its_own(node) else None
    is_view = any(result.alias_info is not None for result in schema.returns)
    made_of_others = op.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)
    return None if is_view and made_of_others and _name(op) not in VIEWS else op


def _overwrites_its_own(node: fx.Node) -> bool:
    """Whether a node overwrites a new tensor that only it reads."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not isinstance(source.target, OpOverload):
        return False
    return _name(source.target) in OWN and len(source.users) == 1


def _elsewhere(op: OpOverload) -> Any:
    """The same, not in place: `relu` for `relu_`, `add.Tensor` for `add_.Tensor`."""
    name = _name(op)
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    return getattr(packet, cast("Any", op)._overloadname, None)


def _name(op: OpOverload) -> str:
    """The name of one of torch's own operations, without its overload; else with its namespace."""
    return str(cast("Any", op)._schema.name).removeprefix("aten::")
