"""How two bases are aligned where no labels are needed, and what may move at all."""

from collections.abc import Iterable
from typing import Any

from symport.huggingface import Family, all_outputs, example_inputs
from symport.methods import Available, Problem, SinglePermutation, make_method
from symport.params import Params
from symport.port._ancestry import are_related, embedding_names, residual_groups
from symport.spec import Permutation, PermutationSpec, fix
from symport.symmetry import discover

PROVEN_BELOW = 300_000_000  # parameters: a proof takes two float64 copies and a minute beyond


def find_spec(
    model: Any, family: Family, old: Params, new: Params, fix_residual: str
) -> PermutationSpec:
    """The symmetry, proven unless the model is large; the residual stream fixed where asked for.

    With `fix_residual="auto"` it is fixed if the two bases have a common ancestor.
    """
    is_large = sum(tensor.numel() for tensor in model.parameters()) > PROVEN_BELOW
    traced = family.outline() if is_large else model
    spec = discover(traced, example_inputs(traced, family.config), select=all_outputs)
    names = embedding_names(model)
    if fix_residual == "yes" or (fix_residual == "auto" and are_related(old, new, names)):
        return fix(spec, residual_groups(spec, names), "the residual stream is fixed")
    return spec


def align(name: str, problem: Problem, model: Any, batches: Iterable[Any]) -> Permutation | None:
    """The permutation of a method that needs no labels.

    Args:
        name: Such as `"weights"`; as for `make_method`.
        problem: What is to be transferred where.
        model: Gives the computation.
        batches: Inputs as the model takes them, for a method that needs them.

    Returns:
        None if the method has another permutation for each step.

    Raises:
        SettingsError: There is no such method, or it needs something else.
    """
    method = make_method(name, Available(model=model, inputs=lambda: batches))
    if not isinstance(method, SinglePermutation):
        return None
    return method.init(problem).permutation
