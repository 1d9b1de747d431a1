"""Replace in-place operations by functional ones, where nothing else reads what they overwrite.

torch can rewrite every in-place operation of an exported program, but traces the whole program
again, which would take most of the time of a discovery. A ReLU that overwrites the result of a
convolution that nothing else reads needs no such rewriting.
"""

from typing import Any, cast

import torch
from torch import fx
from torch._C import DispatchKey
from torch._ops import OpOverload

# Operations whose result is never a view of another tensor (a dropout's is, in evaluation mode).
OWN = {"conv1d", "conv2d", "conv3d", "linear", "batch_norm", "group_norm", "add", "mul", "cat"}
VIEWS = {"reshape", "flatten", "unflatten", "contiguous", "to", "chunk"}  # these have rules


def functional(node: fx.Node) -> Any:
    """The operation that a node calls, in a form for which there are rules.

    Returns:
        Its own target, or the functional version of an in-place operation; None if it overwrites a
        tensor that others may read, or is a view that torch composes of other operations.
    """
    op = cast("Any", node.target)
    if not isinstance(op, OpOverload):
        return op
    schema = cast("Any", op)._schema
    if schema.is_mutable:
        return _elsewhere(op) if _overwrites_its_own(node) else None
    is_view = any(result.alias_info is not None for result in schema.returns)
    is_composite = op.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)
    return None if is_view and is_composite and _name(op) not in VIEWS else op


def _overwrites_its_own(node: fx.Node) -> bool:
    """Whether a node overwrites a new tensor that only it reads."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not isinstance(source.target, OpOverload):
        return False
    return _name(source.target) in OWN and len(source.users) == 1


def _elsewhere(op: OpOverload) -> Any:
    """The functional version: `relu` for `relu_`, `add.Tensor` for `add_.Tensor`."""
    name = _name(op)
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    return getattr(packet, cast("Any", op)._overloadname, None)


def _name(op: OpOverload) -> str:
    """The name of one of torch's own operations, without its overload; else with its namespace."""
    return str(cast("Any", op)._schema.name).removeprefix("aten::")
