"""Keep the similarity of every group up to date while pairs and permutations change.

The similarity S of a group says what placing source unit j at target position i gains in
Σₖ wₖ ⟨targetₖ, P(sourceₖ)⟩, all other groups held (eq. 3 of the paper, summed over pairs). A new
pair adds one matrix product for each slot of each tensor. When a group's permutation changes, the
similarities of its neighbours are corrected for the changed units alone. A tensor with a single
moving axis depends on no other group: it is added and forgotten.

Joined processes (`symport.distributed`) share the tensors out among them. Each keeps what its own
say, in matrices that are summed over all processes when they are read: sums and corrections are
linear, so nothing else needs to travel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from symport.distributed import add_up, rank, total, whole, world
from symport.errors import ParamsError, SpecError
from symport.matching._bilinear import HeldPart, gram
from symport.matching._unfolding import Part, cut
from symport.matching._wreath import Facet, facet_index
from symport.params import Params, is_finite
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
class Gains:
    """What some pairs say about each slot, in place of the pairs: as large as the similarities.

    That is all they say if each of their tensors has one moving axis, as activations have.

    Attributes:
        facets: For each tree and facet the gain of placing source unit `j` at position `i`, shape
            `(n, n)`, float32. Joined processes each hold their share.
        constant: What no permutation changes.
    """

    facets: Mapping[str, Mapping[Facet, Tensor]]
    constant: float = 0.0

    def times(self, weight: float) -> "Gains":
        """With another say in the objective."""
        facets = {
            tree: {facet: gain * weight for facet, gain in own.items()}
            for tree, own in self.facets.items()
        }
        return Gains(facets, self.constant * weight)


class Similarity:
    """The similarities of all groups at a present permutation.

    Args:
        spec: The symmetry of the network.
        start: The first permutation; the identity if None.
        keep: The dtype in which pairs are kept; None for their own.

    Attributes:
        objective: Σ w ⟨target, P(source)⟩ at the present permutation, in float64.
        trees: The groups below each root.
        changed: Roots whose similarity has changed since they were taken off this list.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        start: Permutation | None = None,
        *,
        keep: torch.dtype | None = None,
    ) -> None:
        self.spec = spec
        self._keep = keep
        self.objective = 0.0
        self.trees = spec.trees()
        self.changed: list[str] = []
        first = start or Permutation.identity(spec)
        first.check(spec)
        self._indices = dict(first.indices)
        self._facets: dict[str, dict[Facet, Tensor]] = {tree: {} for tree in self.trees}
        self._single: dict[str, list[Part]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._held: dict[str, list[HeldPart]] = {}
        self._holding: dict[str, list[HeldPart]] = {tree: [] for tree in self.trees}

    @property
    def permutation(self) -> Permutation:
        """The present permutation."""
        return Permutation(dict(self._indices))

    @property
    def kept_bytes(self) -> int:
        """What the pairs take that later permutations can still change: only those are kept."""
        return sum(held.nbytes for parts in self._held.values() for held in parts)

    def of(self, tree: str) -> Mapping[Facet, Tensor]:
        """The similarity of each facet of a tree, float64, `(n, n)`."""
        facets = self._facets[tree]
        if world() == 1:
            return facets
        summed = {facet: facets[facet].clone() for facet in sorted(facets)}
        add_up(list(summed.values()))
        return summed

    def indices(self, tree: str) -> dict[str, Tensor]:
        """The present indices of the groups of a tree."""
        return {group: self._indices[group] for group in self.trees[tree]}

    def value(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """What a tree gains under some indices of its groups."""
        return total(
            sum(
                _trace(gain, facet_index(facet, indices))
                for facet, gain in sorted(self._facets[tree].items(), key=itemgetter(0))
            )
        )

    def neighbours(self, tree: str) -> set[str]:
        """The trees that share a tensor with this one."""
        return {slot.tree for held in self._holding[tree] for slot in held.part.slots}

    def add(self, pair: Pair) -> None:
        """Add one pair to the objective; raises ParamsError or SpecError if it does not fit."""
        check_pair(pair, self.spec)
        gained = 0.0
        # In the spec's order, so that sums do not depend on that of the pair.
        for number, name in enumerate(n for n in self.spec.patterns if n in pair.target):
            target, source = whole(pair.target[name]), whole(pair.source[name])
            if not self.spec.matched({name: target}):
                continue
            self._cut(name, tuple(target.shape))
            if number % world() == rank():
                gained += self._add_tensor(name, target, source, pair.weight)
            else:
                self._expect(name)
        self.objective += total(gained)

    def gains(self) -> Gains:
        """All that has been added, at its own size; raises SpecError if later moves change it."""
        if self.kept_bytes:
            held = [name for name, parts in self._held.items() if parts]
            raise SpecError(f"{held[0]}: several groups move it, so its gains are not fixed")
        facets = {
            tree: {facet: gain.float() for facet, gain in own.items()}
            for tree, own in self._facets.items()
        }
        return Gains(facets, self.objective - total(self._traces(facets)))

    def add_gains(self, gains: Gains) -> None:
        """Add what pairs said that are no longer there."""
        for tree, own in gains.facets.items():
            for facet, gain in own.items():
                self._collect(tree, facet, gain.double())
        self.objective += total(self._traces(gains.facets)) + gains.constant

    def _traces(self, facets: Mapping[str, Mapping[Facet, Tensor]]) -> float:
        return sum(
            _trace(gain, facet_index(facet, self._indices))
            for own in facets.values()
            for facet, gain in own.items()
        )

    def add_similarity(self, group: str, similarity: Tensor) -> None:
        """Add gains from elsewhere to a root group, such as correlations of activations.

        Args:
            group: A group that is not nested.
            similarity: Gain of placing source unit `j` at position `i`, shape `(n, n)`. Joined
                processes each add their share.
        """
        n = self.spec.sizes.get(group)
        if group not in self.trees or similarity.shape != (n, n):
            raise SpecError(
                f"{group}: no root group fits a similarity of {tuple(similarity.shape)}"
            )
        gain = similarity.to("cpu", torch.float64)
        self._collect(group, (group,), gain)
        self.objective += total(_trace(gain, self._indices[group]))

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

    def _cut(self, name: str, shape: tuple[int, ...]) -> None:
        if name in self._shapes:
            return
        parts = cut(name, shape, self.spec)
        self._shapes[name] = shape
        self._single[name] = [part for part in parts if len(part.slots) < 2]
        self._held[name] = [
            HeldPart(part, [facet_index(slot.facet, self._indices) for slot in part.slots])
            for part in parts
            if len(part.slots) > 1
        ]
        for held in self._held[name]:
            for tree in {slot.tree for slot in held.part.slots}:
                self._holding[tree].append(held)

    def _add_tensor(self, name: str, target: Tensor, source: Tensor, weight: float) -> float:
        """Add one tensor of a pair; returns what it contributes to the objective."""
        gained = 0.0
        for part in self._single[name]:
            gained += self._add_single(part, part.lay_out(target), part.lay_out(source), weight)
        for held in self._held[name]:
            gains = held.add(target, source, weight, self._keep)
            for slot, gain in zip(held.part.slots, gains, strict=True):
                self._collect(slot.tree, slot.facet, gain)
            gained += _trace(gains[0], held.index[0])
        return gained

    def _add_single(self, part: Part, target: Tensor, source: Tensor, weight: float) -> float:
        """Parts with one slot depend on no other group: they are added and forgotten."""
        if not part.slots:
            return float((target.double() * source.double()).sum()) * weight
        (slot,) = part.slots
        gain = gram(target, source, 0) * weight
        self._collect(slot.tree, slot.facet, gain)
        return _trace(gain, facet_index(slot.facet, self._indices))

    def _expect(self, name: str) -> None:
        """Nothing of our own to add: another process adds this tensor."""
        for part in [*self._single[name], *(held.part for held in self._held[name])]:
            for slot in part.slots:
                nothing = torch.zeros(slot.size, slot.size, dtype=torch.float64)
                self._collect(slot.tree, slot.facet, nothing)

    def _collect(self, tree: str, facet: Facet, gain: Tensor) -> None:
        facets = self._facets[tree]
        if facet in facets:
            facets[facet] += gain
        else:
            facets[facet] = gain
        if tree not in self.changed:
            self.changed.append(tree)

    def _move_part(self, held: HeldPart, tree: str) -> None:
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


def _trace(gain: Tensor, index: Tensor) -> float:
    return float(gain.gather(1, index[:, None]).sum())


def check_pair(pair: Pair, spec: PermutationSpec) -> None:
    """Raise ParamsError or SpecError unless a pair fits the spec and is finite."""
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
            if spec.moves(name) and not tensor.is_floating_point():
                raise ParamsError(
                    f"{name}: the {side} is of {tensor.dtype} and cannot be matched; convert it to "
                    "a floating-point dtype first"
                )
            if tensor.is_floating_point() and not is_finite(tensor):
                raise ParamsError(f"{name}: the {side} holds NaN or infinity")
