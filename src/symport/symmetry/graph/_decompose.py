"""Decompose operations that have no rule into others, where torch can.

torch defines most of its operations by others: a distance by a difference and a norm, a loss by a
softmax and a look-up. Operations with a rule are kept, as their rule is more precise. A network
that has none to decompose is left unchanged, since torch traces all of it again.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import isfunction
from typing import Any, cast

from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram, default_decompositions

from symport.symmetry.graph._functionalize import functional

Known = Callable[[Any], bool]


def decomposed(program: ExportedProgram, known: Known) -> ExportedProgram:
    """The program without operations that overwrite shared tensors or that can be decomposed.

    Args:
        program: As exported.
        known: Whether an operation has a rule.
    """
    calls = list(_calls(program.graph_module))
    strange = {
        op for op in (functional(node) for node in calls) if op is not None and not known(op)
    }
    is_functional = all(functional(node) is not None for node in calls)
    if is_functional and not any(map(_opens, strange)):
        return program
    ways = {op: way for op, way in _all_ways().items() if not known(op)} if strange else {}
    try:
        return program.run_decompositions(ways)
    except Exception:  # torch cannot trace every branch or loop a second time
        if is_functional:
            return program
        raise


def _opens(op: Any) -> bool:
    """Whether torch can decompose an operation; `vmap` leaves plain functions, which it can."""
    return op in _all_ways() if isinstance(op, OpOverload) else isfunction(op)


@cache
def _all_ways() -> Mapping[Any, Callable[..., Any]]:
    return dict(cast("Any", default_decompositions()).items())


def _calls(module: fx.GraphModule) -> Iterator[fx.Node]:
    """The calls of a graph and of the parts of it that are inlined."""
    for node in module.graph.find_nodes(op="get_attr"):
        part = getattr(module, str(node.target), None)
        if isinstance(part, fx.GraphModule) and any(
            "wrap_with" in str(n.target) for n in node.users
        ):
            yield from _calls(part)
    yield from (node for node in module.graph.nodes if node.op == "call_function")
