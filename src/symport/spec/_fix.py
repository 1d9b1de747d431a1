"""Fix groups of a spec: their units keep their places."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from symport.errors import SpecError
from symport.params import listed
from symport.spec._pattern import (
    Axis,
    Fixed,
    Pattern,
    Product,
    Sum,
    axis_length,
    groups_in,
    parents,
    root,
)
from symport.spec._spec import PermutationSpec


def fix(spec: PermutationSpec, groups: Collection[str], reason: str) -> PermutationSpec:
    """The spec with some groups fixed, and all groups nested in them.

    Args:
        spec: Not modified.
        groups: Names of groups. An outermost group is absent from the result, and its axes become
            `.`; a nested one remains, of kind `"fixed"`.
        reason: Recorded for every axis of an outermost group.

    Raises:
        SpecError: There is no group of such a name.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h d"}, sizes={"h": 2, "d": 3})
        >>> print(fix(spec, ["d"], "shared by both networks"))
        w  h .
        groups: h 2
    """
    if unknown := [name for name in groups if name not in spec.groups]:
        raise SpecError(f"there is no group {listed(unknown)}, only {listed(sorted(spec.groups))}")
    left = _without(spec, {name for name in groups if not parents(name)}, reason)
    nested = {g for g in left.groups if set(groups) & {g, *parents(g)}}
    fixed = {name: replace(left.groups[name], kind="fixed") for name in nested}
    return replace(left, groups={**left.groups, **fixed})


def _without(spec: PermutationSpec, roots: Collection[str], reason: str) -> PermutationSpec:
    """The spec without the trees of some outermost groups."""
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
