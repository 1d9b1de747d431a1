"""Make some groups of a spec stay."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from symport.spec._pattern import Axis, Fixed, Pattern, Product, Sum, axis_length, groups_in, root
from symport.spec._spec import PermutationSpec


def drop_trees(spec: PermutationSpec, roots: Collection[str], reason: str) -> PermutationSpec:
    """The spec without the groups of some trees.

    Args:
        spec: Not modified.
        roots: Outermost groups; what is nested in them goes too.
        reason: Recorded for every axis that now stays.
    """
    gone = frozenset(name for name in spec.groups if root(name) in roots)
    patterns: dict[str, Pattern] = {}
    reasons = {name: dict(found) for name, found in spec.reasons.items()}
    for name, pattern in spec.patterns.items():
        patterns[name] = tuple(_fixed(axis, gone, spec.sizes, top=True) for axis in pattern)
        for dim, axis in enumerate(pattern):
            if gone.intersection(groups_in(axis)):
                known = reasons.setdefault(name, {})
                known[dim] = "; ".join(filter(None, (known.get(dim), reason)))
    groups = {name: group for name, group in spec.groups.items() if name not in gone}
    ties = {name: tie for name, tie in spec.ties.items() if name in groups}
    return replace(spec, patterns=patterns, groups=groups, reasons=reasons, ties=ties)


def _fixed(axis: Axis, gone: frozenset[str], sizes: Mapping[str, int], *, top: bool) -> Axis:
    here = set(groups_in(axis))
    if not here & gone:
        return axis
    if here <= gone:
        return Fixed(None if top else axis_length(axis, sizes))
    match axis:
        case Product(children):
            return Product(tuple(_fixed(child, gone, sizes, top=False) for child in children))
        case Sum(children):
            return Sum(tuple(_fixed(child, gone, sizes, top=False) for child in children))
        case _:
            return axis
