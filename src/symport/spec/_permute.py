"""Apply a permutation to tensors, compose two, invert one.

Everything is done by indexing, so the identity returns the same bits.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from symport.errors import SpecError
from symport.params import Params, listed
from symport.spec._pattern import (
    Axis,
    Block,
    Fixed,
    Pattern,
    Product,
    axis_blocks,
    groups_in,
    parents,
)
from symport.spec._permutation import Permutation
from symport.spec._spec import PermutationSpec


def permute(
    params: Params, spec: PermutationSpec, permutation: Permutation, *, partial: bool = False
) -> dict[str, Tensor]:
    """Permute the units of a network; its function stays the same.

    Args:
        params: A state dict. Never modified.
        spec: The symmetry of the network.
        permutation: One of this spec.
        partial: Whether tensors of the spec may be absent, as for gradients or a displacement, or
            a file that holds a tied tensor under one of its names only. An absent tensor is not
            permuted, so a network needs all of them.

    Returns:
        New tensors under the same names, in the same order.

    Raises:
        SpecError: A tensor has no pattern or does not fit it, one is absent without `partial`, or
            the permutation is not one of this spec.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h ."}, sizes={"h": 3})
        >>> flip = Permutation({"h": torch.tensor([2, 1, 0])})
        >>> permute({"w": torch.tensor([[1.0], [2.0], [3.0]])}, spec, flip)["w"].T
        tensor([[3., 2., 1.]])
    """
    spec.check(params)
    if not partial and (missing := [name for name in spec.patterns if name not in params]):
        raise SpecError(
            f"the spec covers {listed(missing)}, which the parameters lack: what is absent would "
            "not move with the rest. Pass a whole state dict, or partial=True for a part of one "
            "(gradients, a displacement, tied tensors under one name)"
        )
    permutation.check(spec)
    return {
        name: permute_tensor(tensor, spec.patterns[name], permutation)
        for name, tensor in params.items()
    }


def permute_tensor(tensor: Tensor, pattern: Pattern, permutation: Permutation) -> Tensor:
    """Permute one tensor whose pattern is known to fit.

    Args:
        tensor: Of the shape that the pattern describes. Never modified.
        pattern: One tree per axis.
        permutation: Covers the groups of the pattern.

    Returns:
        A new tensor of the same shape, dtype and device.

    Example:
        >>> from symport.spec import parse_pattern
        >>> flip = Permutation({"h": torch.tensor([1, 0])})
        >>> permute_tensor(torch.tensor([[1, 2], [3, 4]]), parse_pattern(". h"), flip)
        tensor([[2, 1],
                [4, 3]])
    """
    sizes = {name: index.shape[-1] for name, index in permutation.indices.items()}
    result = tensor
    for dims in _linked(pattern):
        axis = _joined([pattern[dim] for dim in dims], [tensor.shape[dim] for dim in dims])
        if any(True for _ in groups_in(axis)):
            length = _product(tensor.shape[dim] for dim in dims)
            index = axis_index(axis_blocks(axis, length, sizes), length, permutation)
            result = _select(result, dims, index.to(tensor.device))
    return result if result is not tensor else tensor.clone()


def axis_index(blocks: Iterable[Block], length: int, permutation: Permutation) -> Tensor:
    """The old position that each new position of an axis takes, shape `(length,)`, int64.

    Args:
        blocks: All blocks of the axis.
        length: The length of the axis.
        permutation: Covers the groups of the blocks.

    Example:
        >>> from symport.spec import axis_blocks, parse_pattern
        >>> flip = Permutation({"h": torch.tensor([1, 0])})
        >>> axis_index(axis_blocks(parse_pattern("(h 2)")[0], 4, {"h": 2}), 4, flip)
        tensor([2, 3, 0, 1])
    """
    index = torch.arange(length)
    for block in blocks:
        index[block.positions] = source_positions(block, permutation)
    return index


def source_positions(block: Block, permutation: Permutation) -> Tensor:
    """The old position of every element of a block, int64, of the shape of `block.positions`.

    Example:
        >>> block = Block(("h",), torch.tensor([5, 6, 7]))
        >>> source_positions(block, Permutation({"h": torch.tensor([2, 0, 1])}))
        tensor([7, 5, 6])
    """
    coordinates = [
        _along(torch.arange(block.positions.shape[dim]), [dim], block.positions.ndim)
        if label is None
        else _along(permutation.indices[label], _chain(block.labels, dim), block.positions.ndim)
        for dim, label in enumerate(block.labels)
    ]
    return block.positions[tuple(coordinates)]


def compose(first: Permutation, second: Permutation) -> Permutation:
    """The permutation that does `first`, then `second`.

    Raises:
        SpecError: They permute different groups.

    Example:
        >>> turn = Permutation({"h": torch.tensor([1, 2, 0])})
        >>> compose(turn, turn).indices["h"]
        tensor([2, 0, 1])
    """
    if first.indices.keys() != second.indices.keys():
        raise SpecError("the two permutations have different groups")
    return Permutation(
        {
            name: first.indices[name][(*_outer(second, name), index)]
            for name, index in second.indices.items()
        }
    )


def invert(permutation: Permutation) -> Permutation:
    """The permutation that undoes this one.

    Example:
        >>> invert(Permutation({"h": torch.tensor([1, 2, 0])})).indices["h"]
        tensor([2, 0, 1])
    """
    result: dict[str, Tensor] = {}
    for name in sorted(permutation.indices, key=lambda name: name.count("/")):
        index = permutation.indices[name]
        rows = _outer(Permutation({**result, name: index}), name)
        result[name] = (index[tuple(row.squeeze(-1) for row in rows)] if rows else index).argsort()
    return Permutation({name: result[name] for name in permutation.indices})


def permute_optimizer(
    state: dict[str, Any], names: Sequence[str], spec: PermutationSpec, permutation: Permutation
) -> dict[str, Any]:
    """Permute the state of an optimizer along with the weights it belongs to.

    Momentum and second moments have the shape of their weight and are permuted as it is; step
    counts are not.

    Args:
        state: What `optimizer.state_dict()` returned. Never modified.
        names: The names of the parameters in the order in which the optimizer holds them, for
            instance `[name for name, _ in model.named_parameters()]`.
        spec: The symmetry of the network.
        permutation: One of this spec.

    Raises:
        SpecError: The optimizer holds another number of parameters, or a tensor of its state has
            neither the shape of its weight nor a single element.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> flip = Permutation({"h": torch.tensor([1, 0])})
        >>> permuted = permute_optimizer(optimizer.state_dict(), ["w"], spec, flip)
        >>> permuted["state"][0]["momentum_buffer"]
        tensor([4., 3.])
    """
    count = sum(len(group["params"]) for group in state["param_groups"])
    if count != len(names):
        raise SpecError(f"the optimizer holds {count} parameters, {len(names)} names are given")
    slots = cast("dict[int, dict[str, Any]]", state["state"])
    return {
        **state,
        "state": {
            key: {
                field: _permute_slot(value, names[key], field, spec, permutation)
                for field, value in slot.items()
            }
            for key, slot in slots.items()
        },
    }


def _permute_slot(
    value: Any, name: str, field: str, spec: PermutationSpec, permutation: Permutation
) -> Any:
    if not isinstance(value, Tensor) or value.numel() == 1:
        return value
    try:
        return permute({name: value}, spec, permutation, partial=True)[name]
    except SpecError as error:
        raise SpecError(f"optimizer state {field!r} of {name}: {error}") from error


def _outer(permutation: Permutation, name: str) -> tuple[Tensor, ...]:
    """The old indices of the parents of each unit of a group, broadcastable against its own."""
    chain = parents(name)
    depth = len(chain)
    places: list[Tensor] = []
    for level, parent in enumerate(chain):
        index = permutation.indices[parent]
        places.append(index.reshape(index.shape + (1,) * (depth - level)))
    return tuple(places)


def _along(index: Tensor, dims: Sequence[int], ndim: int) -> Tensor:
    """Lay the axes of `index` along `dims` of an `ndim`-dimensional shape of ones."""
    order = sorted(range(len(dims)), key=lambda k: dims[k])
    shape = [1] * ndim
    for k in order:
        shape[dims[k]] = index.shape[k]
    return index.permute(order).reshape(shape)


def _chain(labels: Sequence[str | None], dim: int) -> list[int]:
    """Where the parents of a factor stand (the nearest to its left if repeated), then itself."""
    label = cast("str", labels[dim])
    places: list[int] = []
    for parent in parents(label):
        found = [k for k, other in enumerate(labels) if other == parent]
        places.append(max([k for k in found if k < dim], default=found[0]))
    return [*places, dim]


def is_linked(pattern: Pattern) -> bool:
    """Whether some axes can only be indexed together: a nested group and its parent are apart.

    Example:
        >>> from symport.spec import parse_pattern
        >>> is_linked(parse_pattern("e e/f")), is_linked(parse_pattern("(e e/f) d"))
        (True, False)
    """
    return any(len(dims) > 1 for dims in _linked(pattern))


def _linked(pattern: Pattern) -> list[list[int]]:
    """Sets of axes that must be indexed together: a nested group and its parents elsewhere."""
    clusters: list[list[int]] = [[dim] for dim in range(len(pattern))]
    for dim, axis in enumerate(pattern):
        here = set(groups_in(axis))
        needed = {p for group in here for p in parents(group)} - here
        if needed:
            other = [k for k, axis in enumerate(pattern) if needed & set(groups_in(axis))]
            joined = [c for c in clusters if set(c) & {dim, *other}]
            clusters = [c for c in clusters if c not in joined]
            clusters.append(sorted(k for c in joined for k in c))
    return clusters


def _joined(axes: Sequence[Axis], lengths: Sequence[int]) -> Axis:
    if len(axes) == 1:
        return axes[0]
    sized = [Fixed(n) if axis == Fixed() else axis for axis, n in zip(axes, lengths, strict=True)]
    return Product(tuple(sized))


def _select(tensor: Tensor, dims: Sequence[int], index: Tensor) -> Tensor:
    if len(dims) == 1:
        return tensor.index_select(dims[0], index)
    places = list(range(len(dims)))
    front = tensor.movedim(list(dims), places)
    flat = front.flatten(0, len(dims) - 1)
    return flat.index_select(0, index).reshape(front.shape).movedim(places, list(dims)).contiguous()


def _product(lengths: Iterable[int]) -> int:
    total = 1
    for length in lengths:
        total *= length
    return total
