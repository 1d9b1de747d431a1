"""The permutation symmetry of a network: a pattern for each tensor, and the groups they name.

A group that is nested in another has a permutation of its own inside every unit of its parent,
so together they form a wreath product: `heads` permutes heads, `heads/u` the units inside each.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from torch import Tensor

from symport.errors import SpecError
from symport.io import write_text
from symport.params import Params, listed
from symport.spec._pattern import (
    Pattern,
    axis_length,
    axis_terms,
    groups_in,
    parents,
    parse_pattern,
    root,
    show_pattern,
)
from symport.spec._sizes import infer_sizes

Kind: TypeAlias = Literal["permutation", "fixed"]
KINDS: tuple[Kind, ...] = ("permutation", "fixed")
FORMAT = "symport-spec-1"


@dataclass(frozen=True)
class Group:
    """Units that move together wherever they appear.

    Attributes:
        size: Number of units, inside one unit of the parent if the group is nested.
        kind: `"permutation"`, or `"fixed"` for units that keep their order, while groups nested in
            them may move (heads that cannot be exchanged, say, whose inner units can).

    Example:
        >>> Group(size=12)
        Group(size=12, kind='permutation')
    """

    size: int
    kind: Kind = "permutation"


@dataclass(frozen=True)
class PermutationSpec:
    """Which axes of which tensors move together.

    Attributes:
        patterns: One pattern for each tensor of the state dict, buffers included.
        groups: Every group that the patterns name.
        buffers: Tensors that are statistics, not weights (BatchNorm's): they are permuted with
            the network, but never matched nor displaced by a transfer.
        reasons: Why an axis is fixed, by tensor and axis, where that is known.
        ties: Which operations make the units of a group move together, where that is known.

    Raises:
        SpecError: A pattern names an unknown group, a parent is missing from a tensor, or a
            size is below 1.

    Example:
        >>> spec = PermutationSpec.parse({"up": "h d", "down": "d h"}, sizes={"h": 4, "d": 2})
        >>> print(spec)
        up    h d
        down  d h
        groups: d 2, h 4
    """

    patterns: Mapping[str, Pattern]
    groups: Mapping[str, Group]
    buffers: frozenset[str] = frozenset()
    reasons: Mapping[str, Mapping[int, str]] = field(default_factory=dict[str, Mapping[int, str]])
    ties: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name, group in self.groups.items():
            if group.size < 1 or group.kind not in KINDS:
                raise SpecError(f"group {name}: size {group.size}, kind {group.kind!r} not allowed")
            if absent := [parent for parent in parents(name) if parent not in self.groups]:
                raise SpecError(f"group {name} is nested in {absent[0]}, which is no group")
        for name, pattern in self.patterns.items():
            _check_groups(name, pattern, self.groups)

    @classmethod
    def parse(
        cls,
        patterns: Mapping[str, str],
        like: Params | None = None,
        *,
        sizes: Mapping[str, int] | None = None,
        buffers: Iterable[str] = (),
    ) -> "PermutationSpec":
        """Read patterns written by hand.

        Args:
            patterns: Text of each tensor's pattern.
            like: Tensors from whose shapes the sizes of groups are inferred, and against which the
                result is checked.
            sizes: Sizes that the shapes do not determine, such as the number of heads in
                `"(heads heads/u) ."`.
            buffers: Tensors that are statistics, not weights.

        Raises:
            SpecError: A pattern is malformed, a size is not determined, or a tensor does not fit.

        Example:
            >>> spec = PermutationSpec.parse({"w": "h .", "b": "h"}, sizes={"h": 3})
            >>> spec.groups["h"].size
            3
        """
        parsed = {name: parse_pattern(text) for name, text in patterns.items()}
        known = dict(sizes or {})
        if wrong := [name for name, size in known.items() if size < 1]:
            raise SpecError(f"the size of {listed(wrong)} must be at least 1")
        if like is not None:
            _require(parsed, like)
            known = infer_sizes(parsed, like, known)
        names = {g for pattern in parsed.values() for axis in pattern for g in groups_in(axis)}
        names |= {p for name in names for p in parents(name)}
        if unknown := sorted(known.keys() - names):
            raise SpecError(f"sizes are given for {listed(unknown)}, which no pattern names")
        if unknown := sorted(set(buffers := frozenset(buffers)) - parsed.keys()):
            raise SpecError(f"the buffers {listed(unknown)} have no pattern")
        if unknown := sorted(names - known.keys()):
            raise SpecError(f"the sizes of {unknown} are not determined; pass sizes={{...}}")
        groups = {name: Group(known[name]) for name in sorted(names)}
        spec = cls(parsed, groups, buffers)
        if like is not None:
            spec.check(like)
        return spec

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every group.

        Example:
            >>> PermutationSpec.parse({"w": "(a 2) b"}, sizes={"a": 3, "b": 4}).sizes
            {'a': 3, 'b': 4}
        """
        return {name: group.size for name, group in self.groups.items()}

    def moves(self, name: str) -> bool:
        """Whether a tensor has units to match: some axis names a group, and it is no buffer.

        Args:
            name: A tensor that has a pattern.

        Example:
            >>> spec = PermutationSpec.parse({"w": "h .", "scale": "."}, sizes={"h": 3})
            >>> spec.moves("w"), spec.moves("scale")
            (True, False)
        """
        is_permuted = any(True for axis in self.patterns[name] for _ in groups_in(axis))
        return is_permuted and name not in self.buffers

    def matched(self, params: Params) -> dict[str, Tensor]:
        """The tensors that count in a matching: floating-point ones with a pattern, no buffers.

        Those without a moving axis add a constant to its objective.

        Args:
            params: Tensors by name, of any shapes; those without a pattern are left out.

        Example:
            >>> import torch
            >>> spec = PermutationSpec.parse({"w": "h", "m": "h"}, sizes={"h": 2}, buffers=["m"])
            >>> spec.matched({"w": torch.ones(2), "m": torch.zeros(2)})
            {'w': tensor([1., 1.])}
        """
        return {
            name: tensor
            for name, tensor in params.items()
            if name in self.patterns and name not in self.buffers and tensor.is_floating_point()
        }

    def shape_of(self, group: str) -> tuple[int, ...]:
        """The shape of a group's indices: the sizes of its parents, then its own.

        Example:
            >>> spec = PermutationSpec.parse({"w": "(a a/b)"}, sizes={"a": 2, "a/b": 3})
            >>> spec.shape_of("a/b")
            (2, 3)
        """
        return tuple(self.groups[name].size for name in (*parents(group), group))

    def trees(self) -> dict[str, tuple[str, ...]]:
        """The groups below each root, the root first and parents before children.

        Example:
            >>> spec = PermutationSpec.parse({"w": "(a a/b) d"}, sizes={"a": 2, "a/b": 3, "d": 4})
            >>> spec.trees()
            {'a': ('a', 'a/b'), 'd': ('d',)}
        """
        trees: dict[str, list[str]] = {}
        for name in sorted(self.groups, key=lambda name: name.count("/")):
            trees.setdefault(root(name), []).append(name)
        return {name: tuple(members) for name, members in trees.items()}

    def check(self, params: Params, *, complete: bool = False) -> None:
        """Check that every tensor has a pattern that fits its shape.

        Args:
            params: Tensors to check; a part of the network, such as gradients, will do.
            complete: Whether tensors of the spec that are absent from `params` are an error.

        Raises:
            SpecError: A tensor has no pattern or does not fit it, or is absent where `complete`.

        Example:
            >>> import torch
            >>> spec = PermutationSpec.parse({"w": "h ."}, sizes={"h": 2})
            >>> spec.check({"w": torch.zeros(3, 5)})
            Traceback (most recent call last):
            symport.errors.SpecError: w: axis 0 has length 3, but 'h' has length 2
        """
        if extra := [name for name in params if name not in self.patterns]:
            raise SpecError(f"the spec has no pattern for {listed(extra)}")
        if complete and (missing := [name for name in self.patterns if name not in params]):
            raise SpecError(f"the spec covers {listed(missing)}, which the parameters lack")
        for name, tensor in params.items():
            _check_shape(name, self.patterns[name], tuple(tensor.shape), self.sizes)

    def to_json(self) -> str:
        """The spec as JSON text, one line for each tensor.

        Example:
            >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
            >>> PermutationSpec.from_json(spec.to_json()) == spec
            True
        """
        return json.dumps(
            {
                "format": FORMAT,
                "groups": {n: {"size": g.size, "kind": g.kind} for n, g in self.groups.items()},
                "patterns": {name: show_pattern(p) for name, p in self.patterns.items()},
                "buffers": sorted(self.buffers),
                "reasons": {
                    n: {str(k): r for k, r in rs.items()} for n, rs in self.reasons.items()
                },
                "ties": dict(self.ties),
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "PermutationSpec":
        """Read the text that `to_json` returns.

        Raises:
            SpecError: The text is not JSON, or not a spec.

        Example:
            >>> PermutationSpec.from_json("{}")
            Traceback (most recent call last):
            symport.errors.SpecError: this is not a permutation spec: KeyError('format')
        """
        try:
            data = cast("dict[str, Any]", json.loads(text))
            if data["format"] != FORMAT:
                raise SpecError(f"format {data['format']!r} is not {FORMAT!r}")
            return cls(
                {name: parse_pattern(p) for name, p in data["patterns"].items()},
                {name: Group(int(g["size"]), g["kind"]) for name, g in data["groups"].items()},
                frozenset(data["buffers"]),
                {n: {int(k): r for k, r in rs.items()} for n, rs in data["reasons"].items()},
                {str(name): str(tie) for name, tie in data.get("ties", {}).items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"this is not a permutation spec: {error!r}") from error

    def save(self, path: str | Path) -> None:
        """Write the spec as JSON.

        Raises:
            FileError: The file cannot be written.
        """
        write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "PermutationSpec":
        """Read a spec that `save` wrote.

        Raises:
            SpecError: The file cannot be read, or is not a spec.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, SpecError) as error:
            raise SpecError(f"{path}: {error}") from error

    def __str__(self) -> str:
        """The patterns in a column, then the groups with their sizes."""
        width = max((len(name) for name in self.patterns), default=0)
        lines = [f"{name:<{width}}  {show_pattern(p)}" for name, p in self.patterns.items()]
        groups = ", ".join(
            f"{name} {group.size}{' (fixed)' if group.kind == 'fixed' else ''}"
            for name, group in self.groups.items()
        )
        return "\n".join([*lines, f"groups: {groups or 'none'}"])


def _require(patterns: Mapping[str, Pattern], params: Params) -> None:
    if missing := [name for name in patterns if name not in params]:
        raise SpecError(f"patterns are given for {listed(missing)}, which do not exist")
    if missing := [name for name in params if name not in patterns]:
        raise SpecError(f"no pattern is given for {listed(missing)}")


def _check_groups(name: str, pattern: Pattern, groups: Mapping[str, Group]) -> None:
    named = {group for axis in pattern for group in groups_in(axis)}
    if unknown := sorted(named - groups.keys()):
        raise SpecError(f"{name}: the pattern names unknown groups {unknown}")
    terms = [axis_terms(axis) for axis in pattern]
    for dim in range(len(pattern)):
        for group, parent in _strays(terms, dim):
            raise SpecError(
                f"{name}: group {group} is nested in {parent}, which does not stand beside it; "
                f"write '({parent} {group})', or put {parent} on an axis of its own"
            )


def _strays(terms: Sequence[Sequence[frozenset[str]]], dim: int) -> Iterator[tuple[str, str]]:
    """Groups of an axis, each with a parent that is missing from a term that the group is in."""
    others = [choices for other, choices in enumerate(terms) if other != dim]
    in_axis = frozenset[str]().union(*terms[dim])
    elsewhere = {g for choices in others for g in frozenset[str].intersection(*choices)} - in_axis
    for term in terms[dim]:
        for group in sorted(term):
            yield from ((group, p) for p in parents(group) if p not in term | elsewhere)


def _check_shape(
    name: str, pattern: Pattern, shape: tuple[int, ...], sizes: Mapping[str, int]
) -> None:
    if len(pattern) != len(shape):
        raise SpecError(
            f"{name}: the pattern '{show_pattern(pattern)}' has {len(pattern)} axes, "
            f"the tensor has shape {shape}"
        )
    for dim, (axis, length) in enumerate(zip(pattern, shape, strict=True)):
        expected = axis_length(axis, sizes)
        if expected is not None and expected != length:
            raise SpecError(
                f"{name}: axis {dim} has length {length}, "
                f"but '{show_pattern((axis,))}' has length {expected}"
            )
