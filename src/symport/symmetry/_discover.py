"""Find the permutation symmetry of any network, and prove it."""

import warnings
from collections.abc import Callable, Collection
from typing import Any

from torch import Generator, Tensor, nn
from torch.utils._pytree import tree_map

from symport.errors import DiscoveryError, SpecError
from symport.params import listed
from symport.spec import PermutationSpec
from symport.spec import fix as fix_groups
from symport.symmetry._groups import Tensors, nest
from symport.symmetry._propagate import UNUSED, Relations, relate, running_statistics
from symport.symmetry._terms import atoms, fix, tie
from symport.symmetry._write_spec import describe
from symport.symmetry.axes import fixed, has_rule, register_rule
from symport.symmetry.graph import Example, Graph, check_arguments, check_call, trace
from symport.symmetry.proof import Proof, nothing_to_compare, verify
from symport.symmetry.rewrite import index_by_slices, resolve_stacks, split_stacked, unroll

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

    The model is traced, each operation ties the axes that it relates, and the resulting groups are
    proven by random elements in float64. Axes that no rule covers are fixed.

    Args:
        model: Any module; left unchanged. On the meta device it is traced, and nothing is proven.
        example_inputs: One example: a tensor, a tuple of positional or a mapping of keyword
            arguments. Its sizes matter, its values do not.
        strict: Raise if a group fails its proof, instead of fixing it with a warning.
        select: Picks, from what the model returns, the outputs whose values must not change, for
            instance `lambda out: out.logits`; all of them by default.
        moving: Buffers that differ between networks and so move with their units, such as those
            of a frozen BatchNorm. Running means and variances always do; all other buffers are
            constants that fix their axes.
        generator: Draws the random elements; seed 0 by default.

    Returns:
        A pattern for every tensor of the state dict, the reason for each fixed axis, and the
        operations that tie each group.

    Raises:
        DiscoveryError: The model cannot be traced, has no floating-point output, or amplifies
            rounding so much that a proof cannot distinguish it from an error; or a group fails its
            proof under `strict`.

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
    graph = _rewritten(trace(model, example, select, has_rule))
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
    """Refuse outputs that do not depend on the weights: no permutation would change them."""
    reached = {source.target for source in graph.sources.values() if source.kind == "weight"}
    if not reached and any(True for _ in model.parameters()):
        raise DiscoveryError(
            f"{type(model).__name__} returns no tensor that depends on its weights, so there is "
            "nothing to compare; let the model return its outputs, or correct `select`"
        )


def _rewritten(graph: Graph) -> Graph:
    """The graph with stacked layers, positions and parts of one tensor read separately."""
    return split_stacked(resolve_stacks(index_by_slices(unroll(graph))))


def _placed(example: Example, on_meta: bool) -> Example:
    """The example, on the meta device if the weights are."""
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
        or fixed(shape, graph.fixed.get(graph.names.get(name, name), UNUSED))
        for name, shape in graph.tensors.items()
    }


def _described(tensors: Tensors, relations: Relations, buffers: frozenset[str]) -> PermutationSpec:
    """The spec; a tensor whose nested groups no pattern can express is fixed."""
    try:
        return describe(tensors, nest(tensors, relations), buffers, relations.ties)
    except SpecError as error:
        odd = next((name for name in tensors if str(error).startswith(f"{name}: ")), None)
        if odd is None or not any(atom.reason is None for t in tensors[odd] for atom in atoms(t)):
            raise
        for term in tensors[odd]:
            fix(term, f"no pattern expresses how its units are nested ({error})")
    return _described(tensors, relations, buffers)


def _without_failures(spec: PermutationSpec, proof: Proof, *, strict: bool) -> PermutationSpec:
    """Fix the trees that failed, and name in a warning the groups that could not be proven."""
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
    warnings.warn(f"{message}; their axes are fixed", stacklevel=3)
    return fix_groups(spec, proof.failed.keys(), FAILED)
