"""Infer the sizes of groups from the shapes of tensors."""

import math
from collections.abc import Iterator, Mapping

from symport.params import Params
from symport.spec._pattern import Axis, Fixed, Pattern, Product, Sum, Unit, axis_length


def infer_sizes(
    patterns: Mapping[str, Pattern], params: Params, known: dict[str, int]
) -> dict[str, int]:
    """Solve each axis for the one unknown size in it, until no more sizes are found."""
    axes = [
        (axis, length)
        for name, pattern in patterns.items()
        for axis, length in zip(pattern, params[name].shape, strict=False)
    ]
    while True:
        found = {g: n for axis, length in axes for g, n in _solve_axis(axis, length, known)}
        if found.keys() <= known.keys():
            return known
        known = {**found, **known}


def _solve_axis(axis: Axis, length: int, known: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    match axis:
        case Unit(group):
            yield group, length
        case Product(children) | Sum(children):
            is_open = [c for c in children if axis_length(c, known) is None]
            if not is_open or any(child != is_open[0] for child in is_open):
                return
            rest = [axis_length(c, known) or 0 for c in children if c not in is_open]
            share = _share(isinstance(axis, Product), length, rest, len(is_open))
            if share is not None:
                yield from _solve_axis(is_open[0], share, known)
        case Fixed():
            return


def _share(is_product: bool, length: int, rest: list[int], count: int) -> int | None:
    """The size of each of `count` equal unknown children, or None if there is no integer one."""
    if is_product:
        done = math.prod(rest)
        size = round((length / done) ** (1 / count))
        return size if size >= 1 and done * size**count == length else None
    size, left = divmod(length - sum(rest), count)
    return size if size >= 1 and left == 0 else None
