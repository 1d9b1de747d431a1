"""Whether two bases have a common ancestor, so that their residual streams agree."""

from collections.abc import Collection, Iterator

from torch import Tensor, nn

from symport.params import Params, inner
from symport.spec import PermutationSpec, groups_in

RELATED = 0.5  # cosine of input embeddings: near 0 for independent bases, above 0.9 for descendants


def embedding_names(model: nn.Module) -> list[str]:
    """The names of the input embeddings: of tokens, or the convolution of patches.

    Args:
        model: Of transformers; any other has none.

    Example:
        >>> from transformers import GPT2LMHeadModel
        >>> embedding_names(GPT2LMHeadModel.from_pretrained(models["old_base"]))
        ['transformer.wte.weight']
    """
    find = getattr(model, "get_input_embeddings", None)
    try:
        entry = find() if callable(find) else None
    except (AttributeError, NotImplementedError):  # convolutional networks have none
        return []
    if not isinstance(entry, nn.Module):
        return []
    own = {id(tensor) for tensor in entry.parameters() if tensor.ndim > 1}
    return [name for name, tensor in model.named_parameters() if id(tensor) in own]


def residual_groups(spec: PermutationSpec, names: Collection[str]) -> set[str]:
    """The groups of the residual stream: those of the axes of the embeddings.

    Args:
        spec: The symmetry.
        names: Of the embeddings; those that the symmetry lacks are ignored.

    Example:
        >>> spec = PermutationSpec.parse({"embed": ". s", "mlp": "h s"}, sizes={"s": 4, "h": 8})
        >>> residual_groups(spec, ["embed"])
        {'s'}
    """
    return {g for name in names for axis in spec.patterns.get(name, ()) for g in groups_in(axis)}


def cosine(a: Params, b: Params, names: Collection[str]) -> float | None:
    """The cosine of the angle between some tensors of two networks; None without any.

    Example:
        >>> import torch
        >>> cosine({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([1.0, 1.0])}, ["w"])
        0.7071067811865475
    """
    sums = [0.0, 0.0, 0.0]
    for ours, theirs in _pairs(a, b, names):  # one tensor at a time: they may lie on disk
        x, y = {"": ours}, {"": theirs}
        for place, (left, right) in enumerate(((x, y), (x, x), (y, y))):
            sums[place] += inner(left, right)
    return sums[0] / (sums[1] * sums[2]) ** 0.5 if sums[1] * sums[2] > 0 else None


def are_related(old: Params, new: Params, names: Collection[str]) -> bool:
    """Whether the cosine of the embeddings of two bases is above `RELATED`."""
    found = cosine(old, new, names)
    return found is not None and found > RELATED


def _pairs(a: Params, b: Params, names: Collection[str]) -> Iterator[tuple[Tensor, Tensor]]:
    for name in names:
        if name in a and name in b:
            yield a[name], b[name]
