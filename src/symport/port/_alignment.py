"""The symmetry of two bases, and their alignment by a method that needs no labels."""

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
    """The symmetry of a model, proven unless the model is large.

    Args:
        model: On any device; of a large one the family's outline is traced instead.
        family: The architecture.
        old: Tensors of the old base.
        new: Tensors of the new base.
        fix_residual: Whether the residual stream is fixed: `"yes"`, `"no"`, or `"auto"`, which
            fixes it if the two bases have a common ancestor.

    Raises:
        DiscoveryError: The model cannot be traced, or its symmetry is refused.

    Example:
        `models` maps `old_base`, `tuned` and `new_base` to folders of a tiny GPT-2:

        >>> from symport.huggingface import find_family, find_folders
        >>> from symport.port import load_all, make_settings
        >>> folders = find_folders(**models)
        >>> family = find_family(folders)
        >>> found = load_all(folders, family, make_settings({**models, "out": folder / "port"}))
        >>> spec = find_spec(found.model, family, found.old, found.new, fix_residual="auto")
        >>> spec.patterns["transformer.wte.weight"]  # tokens by residual stream
        (Fixed(size=None), Fixed(size=None))
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
        name: A built-in method such as `"weights"`, or `module:function`.
        problem: The trajectory, the target and the symmetry.
        model: Gives the computation.
        batches: Inputs as the model takes them, for a method that needs them.

    Returns:
        None if the method has another permutation for each step.

    Raises:
        SettingsError: There is no such method, or it needs more than inputs, such as labels.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from symport.spec import permute
        >>> from symport.trajectory import Trajectory
        >>> start = {"0.weight": torch.eye(3), "1.weight": torch.tensor([[1.0, 2.0, 3.0]])}
        >>> spec = PermutationSpec.parse({"0.weight": "a .", "1.weight": ". a"}, start)
        >>> order = Permutation({"a": torch.tensor([1, 2, 0])})
        >>> end = {name: 2 * tensor for name, tensor in start.items()}
        >>> source = Trajectory.linear(start, end, steps=1)
        >>> problem = Problem(source, permute(start, spec, order), spec)
        >>> model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False))
        >>> align("weights", problem, model, batches=[]).indices["a"].tolist()
        [1, 2, 0]
    """
    method = make_method(name, Available(model=model, inputs=lambda: batches))
    if not isinstance(method, SinglePermutation):
        return None
    return method.init(problem).permutation
