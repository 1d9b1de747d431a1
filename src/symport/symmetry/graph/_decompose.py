"""Take operations that have no rule apart into others, where torch knows how.

torch defines most of its operations by others: a distance by a difference and a norm, a loss by a
softmax and a lookup. What has a rule is left whole, as a rule says more at once. A network that
needs nothing of this is left alone, since torch traces all of it once more.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import isfunction
from typing import Any, cast

from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram, default_decompositions

from symport.symmetry.graph._functionalize import ordinary

Known = Callable[[Any], bool]


def taken_apart(program: ExportedProgram, known: Known) -> ExportedProgram:
    """The program without what works in place on what others see, nor what can be taken apart.

    Args:
        program: As exported.
        known: Whether an operation has a rule.
    """
    calls = list(_calls(program.graph_module))
    strange = {op for op in (ordinary(node) for node in calls) if op is not None and not known(op)}
    is_ordinary = all(ordinary(node) is not None for node in calls)
    if is_ordinary and not any(map(_opens, strange)):
        return program
    ways = {op: way for op, way in _all_ways().items() if not known(op)} if strange else {}
    try:
        return program.run_decompositions(ways)
    except Exception:  # torch cannot trace every branch or loop a second time
        if is_ordinary:
            return program
        raise


def _opens(op: Any) -> bool:
    """Whether torch knows what an operation is made of; what `vmap` leaves are plain functions."""
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
