"""Find the permutation symmetry of any network, and prove it."""

import warnings
from collections.abc import Callable, Collection
from typing import Any

from torch import Generator, Tensor, nn
from torch.utils._pytree import tree_map

from symport.errors import DiscoveryError, SpecError
from symport.params import listed
from symport.spec import PermutationSpec, fix
from symport.symmetry._groups import Tensors, nest
from symport.symmetry._propagate import UNUSED, Relations, relate, running_statistics
from symport.symmetry._terms import atoms, pin, tie
from symport.symmetry._write_spec import describe
from symport.symmetry.axes import has_rule, pinned, register_rule
from symport.symmetry.graph import Example, Graph, check_arguments, check_call, trace
from symport.symmetry.proof import Proof, nothing_to_compare, verify
from symport.symmetry.rewrite import by_slices, unlay, unroll, unstack

__all__ = ["Proof", "discover", "register_rule", "verify"]

FAILED = "failed its proof"


def discover(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    strict: bool = False,
    select: Callable[[Any], Any] | None = None,
    moving: Collection[str] = (),
    generator: Generator | None = None,
) -> PermutationSpec:
    """Find which axes of which tensors can be permuted together without changing the function.

    The model is traced, each operation ties the axes that it relates, and the groups that
    result are proven by random elements in float64. Axes that no rule covers stay.

    Args:
        model: Any module; on the meta device it is traced but not proven. Left as found.
        example_inputs: One example: a tensor, a tuple of positional or a mapping of keyword
            arguments. Its sizes matter, its values do not.
        strict: Raise if a group fails its proof, instead of warning and letting it stay.
        select: Picks the outputs whose values must not change from what the model returns, for
            instance `lambda out: out.logits`; all of them by default.
        moving: Buffers that differ between networks and so move with their units, such as those
            of a frozen BatchNorm; running means and variances always do, all others are constants
            that pin their axes.
        generator: Draws the random elements; seed 0 by default.

    Returns:
        A pattern for every tensor of the state dict, with the reason of each axis that stays and
        the operations that tie each group.

    Raises:
        DiscoveryError: The model cannot be traced, has no floating-point output, amplifies
            rounding beyond what a proof can tell from an error, or a group fails its proof under
            `strict`.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> print(discover(net, Tensor(1, 4)))
        0.weight  h0 .
        0.bias    h0
        2.weight  . h0
        2.bias    .
        groups: h0 3
    """
    check_arguments(model, example_inputs)
    state = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    if unknown := sorted(set(moving) - state.keys()):
        raise DiscoveryError(f"moving names {unknown}, which the state dict does not have")
    on_meta = any(tensor.is_meta for tensor in state.values())
    example = _placed(Example.of(example_inputs), on_meta)
    graph = _understood(trace(model, example, select, has_rule))
    if not graph.inexact.intersection(graph.outputs):
        raise nothing_to_compare(model, select)
    _check_outputs(model, graph)
    statistics = running_statistics(graph).union(graph.names.get(name, name) for name in moving)
    relations = relate(graph, statistics)
    tensors = _tensors(graph, relations)
    buffers = frozenset(name for name in tensors if graph.names.get(name) in statistics)
    spec = _described(tensors, relations, buffers)
    if on_meta or not spec.groups:
        return spec
    try:
        proof = verify(spec, model, example_inputs, generator=generator, select=select)
    except DiscoveryError:
        check_call(model, example.args, example.kwargs)
        raise
    return _without_failures(spec, proof, strict=strict)


def _check_outputs(model: nn.Module, graph: Graph) -> None:
    """Refuse outputs that hold nothing of the weights: whatever moves, nothing would show."""
    reached = {source.target for source in graph.sources.values() if source.kind == "weight"}
    if not reached and any(True for _ in model.parameters()):
        raise DiscoveryError(
            f"{type(model).__name__} returns no tensor that depends on its weights, so there is "
            "nothing to compare; let the model return its outputs, or mend `select`"
        )


def _understood(graph: Graph) -> Graph:
    """The same with less in one tensor: layers, positions and parts that are read on their own."""
    return unstack(unlay(by_slices(unroll(graph))))


def _placed(example: Example, on_meta: bool) -> Example:
    """Inputs on the device of the weights, if those have no memory."""
    if not on_meta:
        return example
    args, kwargs = tree_map(_to_meta, (example.args, dict(example.kwargs)))
    return Example(args, kwargs)


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _tensors(graph: Graph, relations: Relations) -> Tensors:
    """The axes of every tensor of the state dict; several names of one tensor agree."""
    found = dict(relations.unread)
    for name, source in graph.sources.items():
        value = relations.values[name]
        if source.kind in ("weight", "buffer") and not isinstance(value, list) and value:
            main = graph.aliases.get(source.target, source.target)
            for a, b in zip(found.setdefault(main, value.axes), value.axes, strict=True):
                tie(a, b)
    return {
        name: found.get(graph.names.get(name, ""))
        or pinned(shape, graph.stays.get(graph.names.get(name, name), UNUSED))
        for name, shape in graph.tensors.items()
    }


def _described(tensors: Tensors, relations: Relations, buffers: frozenset[str]) -> PermutationSpec:
    """The spec; a tensor whose nested groups no pattern can express stays."""
    try:
        return describe(tensors, nest(tensors, relations), buffers, relations.ties)
    except SpecError as error:
        odd = next((name for name in tensors if str(error).startswith(f"{name}: ")), None)
        if odd is None or not any(atom.reason is None for t in tensors[odd] for atom in atoms(t)):
            raise
        for term in tensors[odd]:
            pin(term, f"no pattern expresses how its units are nested ({error})")
    return _described(tensors, relations, buffers)


def _without_failures(spec: PermutationSpec, proof: Proof, *, strict: bool) -> PermutationSpec:
    """Fix the trees that failed, and name the groups that could not be seen."""
    if proof.unseen:
        warnings.warn(
            f"the effect of {listed(proof.unseen)} on the outputs is lost in rounding with these "
            "example inputs, so they follow from the rules alone and are not proven; pass an "
            "example in which they count (longer, larger, more rows)",
            stacklevel=3,
        )
    if not proof.failed:
        return spec
    found = ", ".join(f"{name} (relative error {e:.1e})" for name, e in proof.failed.items())
    message = f"groups that change the function when permuted: {found}"
    if strict:
        raise DiscoveryError(message)
    warnings.warn(f"{message}; their axes stay", stacklevel=3)
    return fix(spec, proof.failed.keys(), FAILED)
