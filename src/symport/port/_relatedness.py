"""Where the units of one base are in another, found from files for a few groups of units.

A unit is described by its weights along fixed axes, such as tokens or pixels, and along axes of
groups that were found before; along other axes by their norms, which do not depend on the order. A
unit of the old base is found at another place if the nearest unit of the new base is clearly nearer
than the second nearest, and the two are nearest to each other. Between independently trained bases
few units are found, whatever their cosines; those of a base that was trained further are found at
the same place.
"""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from symport.huggingface import Family, all_outputs, example_inputs
from symport.io import Checkpoint
from symport.matching import Part, cut
from symport.model import own_tensors
from symport.params import Params
from symport.port._ancestry import are_related, embedding_names, residual_groups
from symport.spec import PermutationSpec
from symport.symmetry import discover

SAMPLE = 512  # units of a large group that are looked for among all
MOST_PLACED = 8192  # units of a group that describes others: all of them are looked for
MOST_FEATURES = 4096  # of a unit: cosines are then good to 1/64
MOST_GROUPS = 8
FEWEST_UNITS = 8  # of very few units many are found at the same place by chance
BLOCK = 64  # tokens that are read together
FOUND = 0.3  # share of units: between independent bases a twentieth is found by chance
LAYERS = 2  # of which the symmetry is found
DISTINCT = 0.7  # the most that the cosine of the second nearest unit may be, relative

Places = Mapping[str, Tensor]


@dataclass(frozen=True)
class Standing:
    """Where the units of one group are in the new base.

    Attributes:
        group: Its name.
        units: How many were looked for.
        stay: Share of them that are found at the same place.
        moved: Share that are found at another place.
        cosine: Mean cosine to the nearest unit of the new base.
    """

    group: str
    units: int
    stay: float
    moved: float
    cosine: float


@dataclass(frozen=True)
class Kinship:
    """How two bases are related, by the units that were looked for.

    Attributes:
        groups: Where the units of each group are.
        stream: Names of the groups, among these, of the residual stream.
        shares_stream: Whether the embeddings of both bases agree in the given order.
        obstacle: Why units could not be looked for at other places; empty if they were.
    """

    groups: Sequence[Standing]
    stream: Collection[str] = ()
    shares_stream: bool = False
    obstacle: str = ""

    @property
    def units(self) -> int:
        """How many units were looked for."""
        return sum(group.units for group in self.groups)

    @property
    def stay(self) -> float:
        """Share of them that are found at the same place."""
        return _share([(g.units, g.stay) for g in self.groups])

    @property
    def moved(self) -> float:
        """Share of them that are found at another place."""
        return _share([(g.units, g.moved) for g in self.groups])

    @property
    def can_move(self) -> bool:
        """Whether units were looked for at other places."""
        return bool(self.groups) and not self.obstacle

    @property
    def relation(self) -> Literal["reordered", "continued", "only stream", "apart"]:
        """The relation of the new base to the old one, by its units alone."""
        stream = _majority([g for g in self.groups if g.group in self.stream])
        inside = _majority([g for g in self.groups if g.group not in self.stream])
        if "moved" in (inside, stream if inside is None else None):
            return "reordered"
        if inside == "stay" or (inside is None and (stream == "stay" or self.shares_stream)):
            return "continued"
        return "only stream" if stream == "stay" or self.shares_stream else "apart"


def kinship(old: Checkpoint, new: Checkpoint, family: Family) -> Kinship:
    """Look for the units of one base in another of the same family, in a few groups.

    The symmetry is found, unproven, for the model's first layers: those of a large one take a
    minute, and groups repeat. Where it is not found, rows of matrices are compared in their order.

    Args:
        old: Tensors of one base, by the model's names.
        new: Of the other.
        family: The architecture.
    """
    model = family.outline()
    entries = embedding_names(model)
    shares = are_related(old, new, entries)
    try:
        spec = _spec(model, family)
    except Exception as error:  # tracing runs the model's own code, which may fail in any way
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        return Kinship(_rows_as_they_stand(old, new), (), shares, why)
    found = standings(old, new, spec)
    obstacle = "" if found else "the symmetry has no group of units that their weights tell apart"
    return Kinship(
        found or _rows_as_they_stand(old, new), residual_groups(spec, entries), shares, obstacle
    )


def standings(old: Params, new: Params, spec: PermutationSpec) -> list[Standing]:
    """Look for the units of a few groups of `old` in `new`, first of groups beside fixed axes.

    Args:
        old: Tensors of one base.
        new: Of the other; the same names and shapes.
        spec: The symmetry of both.
    """
    parts = _parts_by_tree(old, spec)
    members = spec.trees()
    found: list[Standing] = []
    places: dict[str, Tensor] = {}
    while len(found) < MOST_GROUPS and (tree := _next(parts, places, len(found))):
        own = parts.pop(tree)
        size = spec.sizes[tree]
        ours = _features(old, own, tree, size, places, is_new=False)
        theirs = _features(new, own, tree, size, places, is_new=True)
        standing, place = _found(tree, ours, theirs)
        found.append(standing)
        if members[tree] == (tree,) and len(place) == size:
            places[tree] = place
    return found


def _spec(model: nn.Module, family: Family) -> PermutationSpec:
    """The symmetry of the first layers, if they have the shapes of the whole model's."""
    config = family.config
    if getattr(config, "num_hidden_layers", 0) > LAYERS:
        short = copy.deepcopy(config)
        with suppress(Exception):  # not every model can be cut short
            short.num_hidden_layers = LAYERS
            first = replace(family, config=short).outline()
            shapes = {name: tensor.shape for name, tensor in own_tensors(model).items()}
            if all(shapes.get(n) == t.shape for n, t in own_tensors(first).items()):
                return discover(first, example_inputs(first, short), select=all_outputs)
    return discover(model, example_inputs(model, config), select=all_outputs)


def _rows_as_they_stand(old: Checkpoint, new: Checkpoint) -> list[Standing]:
    """For some matrices, how many rows of one base are nearest to the same rows of the other."""
    outline = new.outline()
    names = [
        name
        for name, tensor in old.outline().items()
        if tensor.ndim > 1 and min(len(tensor), tensor[0].numel()) >= FEWEST_UNITS
        if name in outline and tensor.is_floating_point() and outline[name].shape == tensor.shape
    ]
    found: list[Standing] = []
    for name in names[:: max(-(-len(names) // MOST_GROUPS), 1)]:
        sides = [_normalized(_thinned(_some(t, name), MOST_FEATURES)) for t in (old, new)]
        found.append(_found(name, *sides)[0])
    return [replace(one, moved=0.0) for one in found]


def _some(tensors: Checkpoint, name: str) -> Tensor:
    """The first rows of a tensor, flat."""
    return tensors.rows(name, 0, min(len(tensors.outline()[name]), SAMPLE)).float().flatten(1)


def _share(shares: Sequence[tuple[int, float]]) -> float:
    count = sum(units for units, _ in shares)
    return sum(units * share for units, share in shares) / count if count else 0.0


def _majority(groups: Sequence[Standing]) -> Literal["stay", "moved", "apart"] | None:
    """Where most units were found; None without any group."""
    if not groups:
        return None
    stay = _share([(g.units, g.stay) for g in groups])
    moved = _share([(g.units, g.moved) for g in groups])
    if max(stay, moved) < FOUND:
        return "apart"
    return "stay" if stay >= moved else "moved"


def _parts_by_tree(params: Params, spec: PermutationSpec) -> dict[str, list[Part]]:
    """The parts of weights that distinguish units; vectors, such as those of norms, do not."""
    wanted = {
        tree
        for tree in spec.trees()
        if spec.groups[tree].kind == "permutation" and spec.sizes[tree] >= FEWEST_UNITS
    }
    found: dict[str, list[Part]] = {tree: [] for tree in spec.trees() if tree in wanted}
    for name, shape in _shapes(params).items():
        if name not in spec.patterns or name in spec.buffers or len(shape) < 2:
            continue
        for part in cut(name, shape, spec):
            for tree in {slot.tree for slot in part.slots} & wanted:
                found[tree].append(part)
    return {tree: parts for tree, parts in found.items() if parts}


def _next(parts: Mapping[str, Sequence[Part]], places: Places, count: int) -> str | None:
    """A group whose units have many features that can be compared: first, last, middle in turn."""
    anchored = {tree: sum(_anchored(p, tree, places) for p in own) for tree, own in parts.items()}
    best = max(anchored.values(), default=0)
    if best == 0:
        return None
    near = [tree for tree, features in anchored.items() if 2 * features >= best]
    return near[(0, -1, len(near) // 2)[count % 3]]


def _anchored(part: Part, tree: str, places: Places) -> int:
    """How many features a part gives each unit, those that are norms not counted."""
    others = [slot for slot in part.slots if slot.tree != tree]
    rest = math.prod(part.factors) // math.prod(slot.size for slot in part.slots)
    known = rest * math.prod(slot.size for slot in others if slot.tree in places)
    return known if known > 1 else 0


def _features(
    params: Params, parts: Sequence[Part], tree: str, size: int, places: Places, *, is_new: bool
) -> Tensor:
    """Features of the units of a group, `(units, features)`, centred, rows of norm 1."""
    found: list[Tensor] = []
    room = MOST_FEATURES
    for part in sorted(parts, key=lambda part: -_anchored(part, tree, places)):
        if room <= 0 or not _anchored(part, tree, places):
            break
        rows = _thinned(_of_units(params, part, tree, size, places, is_new=is_new), room)
        found.append(rows / rows.square().mean().sqrt().clamp_min(1e-30))
        room -= rows.shape[1]
    return _normalized(torch.cat(found, 1))


def _normalized(rows: Tensor) -> Tensor:
    """Rows less their mean, each of norm 1."""
    return functional.normalize(rows - rows.mean(0), dim=1)


def _of_units(
    params: Params, part: Part, tree: str, size: int, places: Places, *, is_new: bool
) -> Tensor:
    """One part as `(units, features)`; features of the new base are in the old one's order."""
    laid = _laid_out(params, part)
    own = next(k for k, slot in enumerate(part.slots, 1) if slot.tree == tree)
    normed: list[int] = []
    for axis, slot in enumerate(part.slots, 1):
        if axis == own:
            continue
        if slot.tree in places and slot.tree != tree:
            laid = laid.index_select(axis, places[slot.tree]) if is_new else laid
        else:
            normed.append(axis)
    if part.slots[own - 1].size > size:  # of units nested in these only the norm counts
        laid = torch.linalg.vector_norm(laid.unflatten(own, (size, -1)), dim=own + 1)
    if normed:
        laid = torch.linalg.vector_norm(laid, dim=normed, keepdim=True)
    return laid.movedim(own, 0).flatten(1)


def _laid_out(params: Params, part: Part) -> Tensor:
    """A part as `(rest, n_1, …)`; of very many tokens only some thousand are read."""
    if not isinstance(params, Checkpoint):
        return part.lay_out(params[part.name]).float()
    length, *others = params.outline()[part.name].shape
    stays = 0 in part.order[: len(part.order) - len(part.slots)] and part.select[0] is None
    if length <= MOST_FEATURES or not (stays and part.factors[0] == length):
        return part.lay_out(params[part.name]).float()
    del others
    starts = range(0, length - BLOCK + 1, max(length * BLOCK // MOST_FEATURES, BLOCK))
    rows = torch.cat([params.rows(part.name, k, k + BLOCK) for k in starts])
    return replace(part, factors=(len(rows), *part.factors[1:])).lay_out(rows).float()


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    outline = params.outline() if isinstance(params, Checkpoint) else params
    return {name: tuple(tensor.shape) for name, tensor in outline.items()}


def _thinned(rows: Tensor, most: int) -> Tensor:
    """Some of the features, evenly spaced."""
    return rows[:, :: max(-(-rows.shape[1] // most), 1)]


def _found(tree: str, old: Tensor, new: Tensor) -> tuple[Standing, Tensor]:
    """Where the units are, and for each unit that was looked for the nearest in the new base."""
    size = len(old)
    step = 1 if size <= MOST_PLACED else -(-size // SAMPLE)
    looked = torch.arange(0, size, step)
    best = [(old[k] @ new.T).topk(2) for k in looked.split(SAMPLE)]
    cosine = torch.cat([found.values for found in best])
    place = torch.cat([found.indices[:, 0] for found in best])
    back = torch.cat([(new[k] @ old.T).argmax(1) for k in place.split(SAMPLE)])
    is_mutual = back == looked
    is_distinct = cosine[:, 1] <= DISTINCT * cosine[:, 0]
    stays = is_mutual & (place == looked)
    moved = is_mutual & is_distinct & (place != looked)
    shares = {"stay": float(stays.double().mean()), "moved": float(moved.double().mean())}
    return Standing(tree, len(looked), **shares, cosine=float(cosine[:, 0].mean())), place
