"""Keep the similarity of every group up to date while pairs and permutations change.

The similarity S of a group says what placing source unit j at target position i gains in
Σₖ wₖ ⟨targetₖ, P(sourceₖ)⟩, all other groups held (eq. 3 of the paper, summed over pairs). A new
pair adds one matrix product for each slot of each tensor. When a group's permutation changes, the
similarities of its neighbours are corrected for the changed units alone. A tensor with a single
moving axis depends on no other group: it is added and forgotten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from symport.errors import ParamsError, SpecError
from symport.nested import Facet, facet_index
from symport.params import Params
from symport.parts import Part, cut
from symport.pattern import root
from symport.spec import Permutation, PermutationSpec


@dataclass(frozen=True)
class Pair:
    """Two sets of tensors to be aligned: weights, gradients, or any that the spec covers.

    Attributes:
        target: Stays where it is.
        source: Is permuted; the same names and shapes.
        weight: Its share in the objective.
    """

    target: Params
    source: Params
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class _Kept:
    """One tensor of a pair that is kept, because its slots depend on each other."""

    target: Tensor
    source: Tensor
    weight: float


@dataclass(frozen=True, eq=False)
class _Held:
    """A part with two or more slots: its pairs, and where its source units stand now."""

    part: Part
    pairs: list[_Kept]
    index: list[Tensor]

    def similarity(self, slot: int, pair: _Kept) -> Tensor:
        """What a pair says about one slot, the other slots placed as they are now."""
        source = self.part.lay_out(pair.source)
        for other, index in enumerate(self.index):
            if other != slot:
                source = _take(source, other, index)
        return _gram(self.part.lay_out(pair.target), source, slot) * pair.weight

    def correction(self, slot: int, moved: int, index: Tensor) -> Tensor:
        """How the similarity of `slot` changes when slot `moved` takes a new index."""
        changed = (index != self.index[moved]).nonzero().squeeze(1)
        n = self.part.slots[slot].size
        total = torch.zeros(n, n, dtype=torch.float64)
        for pair in self.pairs:
            target, source = self.part.lay_out(pair.target), self.part.lay_out(pair.source)
            for other, held in enumerate(self.index):
                if other not in (slot, moved):
                    source = _take(source, other, held)
            new = _take(source, moved, index[changed])
            old = _take(source, moved, self.index[moved][changed])
            total += _gram(_take(target, moved, changed), new - old, slot) * pair.weight
        return total


class Similarity:
    """The similarities of all groups at a present permutation.

    Args:
        spec: The symmetry of the network.
        start: The first permutation; the identity if None.

    Attributes:
        objective: Σ w ⟨target, P(source)⟩ at the present permutation, in float64.
        trees: The groups below each root.
        changed: Roots whose similarity has changed since they were taken off this list.
    """

    def __init__(self, spec: PermutationSpec, start: Permutation | None = None) -> None:
        self.spec = spec
        self.objective = 0.0
        self.trees = spec.trees()
        self.changed: list[str] = []
        first = start or Permutation.identity(spec)
        first.check(spec)
        self._indices = dict(first.indices)
        self._facets: dict[str, dict[Facet, Tensor]] = {tree: {} for tree in self.trees}
        self._single: dict[str, list[Part]] = {}
        self._pairs: dict[str, list[_Kept]] = {}
        self._held: dict[str, list[_Held]] = {}
        self._holding: dict[str, list[_Held]] = {tree: [] for tree in self.trees}

    @property
    def permutation(self) -> Permutation:
        """The present permutation."""
        return Permutation(dict(self._indices))

    def of(self, tree: str) -> Mapping[Facet, Tensor]:
        """The similarity of each facet of a tree, float64, `(n, n)`."""
        return self._facets[tree]

    def indices(self, tree: str) -> dict[str, Tensor]:
        """The present indices of the groups of a tree."""
        return {group: self._indices[group] for group in self.trees[tree]}

    def value(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """What a tree gains under some indices of its groups."""
        return sum(
            _trace(gain, facet_index(facet, indices))
            for facet, gain in sorted(self._facets[tree].items(), key=itemgetter(0))
        )

    def neighbours(self, tree: str) -> set[str]:
        """The trees that share a tensor with this one."""
        return {slot.tree for held in self._holding[tree] for slot in held.part.slots}

    def add(self, pair: Pair) -> None:
        """Add one pair to the objective; raises ParamsError or SpecError if it does not fit."""
        _check(pair, self.spec)
        # In the spec's order, so that a restored matcher sums in the same order.
        for name in [name for name in self.spec.patterns if name in pair.target]:
            target = pair.target[name]
            if not target.is_floating_point() or name in self.spec.buffers:
                continue
            self._cut(name, target)
            kept = _Kept(target, pair.source[name], pair.weight)
            for part in self._single[name]:
                self._add_single(part, kept)
            if self._held[name]:
                self._pairs[name].append(kept)
            for held in self._held[name]:
                self._add_held(held, kept)

    def add_similarity(self, group: str, similarity: Tensor) -> None:
        """Add gains from elsewhere to a root group, such as correlations of activations.

        Args:
            group: A group that is not nested.
            similarity: Gain of placing source unit `j` at position `i`, shape `(n, n)`.
        """
        n = self.spec.sizes.get(group)
        if group not in self.trees or similarity.shape != (n, n):
            raise SpecError(
                f"{group}: no root group fits a similarity of {tuple(similarity.shape)}"
            )
        gain = similarity.to("cpu", torch.float64)
        self._collect(group, (group,), gain)
        self.objective += _trace(gain, self._indices[group])

    def move_to(self, permutation: Permutation) -> None:
        """Take another permutation as the present one, all similarities corrected."""
        permutation.check(self.spec)
        for tree, groups in self.trees.items():
            self.place(tree, {g: permutation.indices[g] for g in groups})
        self.changed = list(self.trees)

    def place(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """Give a tree new indices, correct its neighbours; returns the gain in the objective.

        The objective is linear in the tree, or quadratic where the tree occupies two slots of one
        tensor; the mean of the slopes at both ends is exact for either.
        """
        old = {g: self._indices[g] for g in self.trees[tree]}
        rise = self.value(tree, indices) - self.value(tree, old)
        self._indices.update(indices)
        for held in self._holding[tree]:
            self._move_part(held, tree)
        rise += self.value(tree, indices) - self.value(tree, old)
        self.objective += rise / 2
        return rise / 2

    def newest_pair(self) -> dict[str, Tensor]:
        """The kept tensors of the last pair, for `restored`."""
        result: dict[str, Tensor] = {}
        for name, pairs in self._pairs.items():
            if pairs:
                weight = torch.tensor(pairs[-1].weight, dtype=torch.float64)
                result |= {f"target/{name}": pairs[-1].target, f"source/{name}": pairs[-1].source}
                result[f"weight/{name}"] = weight
        return result

    def similarities(self) -> dict[str, Tensor]:
        """The similarity of every facet of every group, for `restored`."""
        return {
            " ".join(facet): gain
            for facets in self._facets.values()
            for facet, gain in facets.items()
        }

    @classmethod
    def restored(
        cls,
        spec: PermutationSpec,
        permutation: Permutation,
        objective: float,
        pairs: Iterable[Params],
        similarities: Params,
    ) -> "Similarity":
        """A solved one as it was when `newest_pair` and `similarities` were read from it."""
        similarity = cls(spec, permutation)
        for pair in pairs:
            for name in [name for name in spec.patterns if f"target/{name}" in pair]:
                target = pair[f"target/{name}"]
                similarity._cut(name, target)
                kept = _Kept(target, pair[f"source/{name}"], float(pair[f"weight/{name}"]))
                similarity._pairs[name].append(kept)
        for key, gain in similarities.items():
            facet = tuple(key.split(" "))
            similarity._facets[root(facet[0])][facet] = gain.clone()
        similarity.objective = objective
        return similarity

    def _cut(self, name: str, tensor: Tensor) -> None:
        if name in self._single:
            return
        parts = cut(name, tensor.shape, self.spec)
        pairs = self._pairs.setdefault(name, [])
        self._single[name] = [part for part in parts if len(part.slots) < 2]
        self._held[name] = [
            _Held(part, pairs, [facet_index(slot.facet, self._indices) for slot in part.slots])
            for part in parts
            if len(part.slots) > 1
        ]
        for held in self._held[name]:
            for tree in {slot.tree for slot in held.part.slots}:
                self._holding[tree].append(held)

    def _add_single(self, part: Part, pair: _Kept) -> None:
        """Parts with one slot depend on no other group: they are added and forgotten."""
        target, source = part.lay_out(pair.target), part.lay_out(pair.source)
        if not part.slots:
            self.objective += float((target.double() * source.double()).sum()) * pair.weight
            return
        (slot,) = part.slots
        gain = _gram(target, source, 0) * pair.weight
        self._collect(slot.tree, slot.facet, gain)
        self.objective += _trace(gain, facet_index(slot.facet, self._indices))

    def _add_held(self, held: _Held, pair: _Kept) -> None:
        for k, slot in enumerate(held.part.slots):
            gain = held.similarity(k, pair)
            self._collect(slot.tree, slot.facet, gain)
            if k == 0:
                self.objective += _trace(gain, held.index[0])

    def _collect(self, tree: str, facet: Facet, gain: Tensor) -> None:
        facets = self._facets[tree]
        if facet in facets:
            facets[facet] += gain
        else:
            facets[facet] = gain
        if tree not in self.changed:
            self.changed.append(tree)

    def _move_part(self, held: _Held, tree: str) -> None:
        for moved, slot in enumerate(held.part.slots):
            if slot.tree != tree:
                continue
            index = facet_index(slot.facet, self._indices)
            if torch.equal(index, held.index[moved]):
                continue
            for k, other in enumerate(held.part.slots):
                if k != moved:
                    self._collect(other.tree, other.facet, held.correction(k, moved, index))
            held.index[moved] = index


def _gram(target: Tensor, source: Tensor, slot: int) -> Tensor:
    """⟨target unit i, source unit j⟩ along one axis, float64 on the CPU."""
    dtype = torch.promote_types(target.dtype, torch.float32)
    a = target.movedim(slot, 0).flatten(1).to(dtype)
    b = source.movedim(slot, 0).flatten(1).to(dtype)
    return (a @ b.T).to("cpu", torch.float64)


def _take(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    return tensor.index_select(dim, index.to(tensor.device))


def _trace(gain: Tensor, index: Tensor) -> float:
    return float(gain.gather(1, index[:, None]).sum())


def _check(pair: Pair, spec: PermutationSpec) -> None:
    if pair.target.keys() != pair.source.keys():
        odd = sorted(pair.target.keys() ^ pair.source.keys())
        raise ParamsError(f"target and source of a pair differ in {odd[:5]}")
    spec.check(pair.target)
    for name, target in pair.target.items():
        source = pair.source[name]
        if target.shape != source.shape:
            raise ParamsError(
                f"{name}: the target has shape {tuple(target.shape)}, "
                f"the source {tuple(source.shape)}"
            )
        for side, tensor in (("target", target), ("source", source)):
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise ParamsError(f"{name}: the {side} holds NaN or infinity")
