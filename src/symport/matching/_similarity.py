"""Keep the similarity of every tree of groups up to date while pairs and permutations change.

The similarity S of a group is the gain of placing source unit j at target position i in
Σₖ wₖ ⟨targetₖ, P(sourceₖ)⟩, all other groups as they are (eq. 3 of the paper, summed over pairs). A
new pair adds one matrix product for each slot of each tensor. When a group is permuted, the
similarities of its neighbours are corrected for the units that moved. A tensor with a single
moving axis depends on no other group: its similarity is added, and the tensor is not kept.

Joined processes (`symport.distributed`) divide the tensors among them. Each keeps the similarities
of its own, which are summed over all processes when they are read: sums and corrections are
linear, so nothing else is exchanged.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter

import torch
from torch import Tensor

from symport.distributed import all_reduce_, full_tensor, rank, total, world_size
from symport.errors import SpecError
from symport.matching._bilinear import BilinearPart, gram
from symport.matching._pair import LinearTerm, Pair, check_pair
from symport.matching._unfolding import Part, cut
from symport.matching._wreath import Facet, facet_index
from symport.spec import Permutation, PermutationSpec


class Similarity:
    """The similarities of all groups at the present permutation; a `Matching` for `solve`.

    Args:
        spec: The symmetry of the network.
        start: The first permutation; the identity if None.
        keep: The dtype in which pairs are kept; None for their own.

    Attributes:
        spec: The symmetry of the network.
        objective: Σ w ⟨target, P(source)⟩ at the present permutation, in float64.
        trees: The groups below each root.

    Raises:
        SpecError: `start` is not a permutation of the spec.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
        >>> similarity = Similarity(spec)
        >>> similarity.add(Pair({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, 3.0])}))
        >>> similarity.objective
        10.0
        >>> similarity.place("h", {"h": torch.tensor([1, 0])})
        1.0
    """

    is_parallel = True

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
        self._changed: dict[str, None] = {}  # as a set that keeps its order
        first = start or Permutation.identity(spec)
        first.check(spec)
        self._indices = dict(first.indices)
        self._facets: dict[str, dict[Facet, Tensor]] = {tree: {} for tree in self.trees}
        self._single: dict[str, list[Part]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._bilinear: dict[str, list[BilinearPart]] = {}
        self._bilinear_of: dict[str, list[BilinearPart]] = {tree: [] for tree in self.trees}

    @property
    def permutation(self) -> Permutation:
        """The present permutation."""
        return Permutation(dict(self._indices))

    @property
    def kept_bytes(self) -> int:
        """The size of the pairs that are kept: those with several moving axes, in bytes."""
        return sum(part.nbytes for parts in self._bilinear.values() for part in parts)

    def gains(self, tree: str) -> Mapping[Facet, Tensor]:
        """The similarity of each facet of a tree, float64, `(n, n)`."""
        facets = self._facets[tree]
        if world_size() == 1:
            return facets
        summed = {facet: facets[facet].clone() for facet in sorted(facets)}
        all_reduce_(list(summed.values()))
        return summed

    def indices(self, tree: str) -> dict[str, Tensor]:
        """The present indices of the groups of a tree."""
        return {group: self._indices[group] for group in self.trees[tree]}

    def value(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """The summed similarity of a tree under some indices of its groups.

        Args:
            tree: The root of the tree.
            indices: For each of its groups a tensor of shape `spec.shape_of(group)`, int64.
        """
        return total(
            sum(
                _trace(gain, facet_index(facet, indices))
                for facet, gain in sorted(self._facets[tree].items(), key=itemgetter(0))
            )
        )

    def neighbours(self, tree: str) -> set[str]:
        """The trees that share a tensor with this one; itself if it has two axes of one tensor."""
        return {slot.tree for kept in self._bilinear_of[tree] for slot in kept.part.slots}

    def take_changed(self) -> list[str]:
        """The trees whose similarity has changed since the last call, in the order of changes."""
        changed, self._changed = list(self._changed), {}
        return changed

    def mark_changed(self, trees: Iterable[str]) -> None:
        """Have `take_changed` return these trees too."""
        self._changed.update(dict.fromkeys(trees))

    def add(self, pair: Pair) -> None:
        """Add one pair to the objective.

        Raises:
            ParamsError: Its sides differ in names or shapes, a tensor holds NaN or infinity, or a
                weight that moves is not floating-point.
            SpecError: A tensor has no pattern or does not fit it.
        """
        check_pair(pair, self.spec)
        gained = 0.0
        # In the spec's order, so that sums do not depend on that of the pair.
        for number, name in enumerate(n for n in self.spec.patterns if n in pair.target):
            target, source = full_tensor(pair.target[name]), full_tensor(pair.source[name])
            if not self.spec.matched({name: target}):
                continue
            self._cut(name, tuple(target.shape))
            if number % world_size() == rank():
                gained += self._add_tensor(name, target, source, pair.weight)
            else:
                self._expect(name)
        self.objective += total(gained)

    def linear_term(self) -> LinearTerm:
        """Everything that has been added, as similarities.

        Raises:
            SpecError: Several groups move one tensor, so its similarity depends on the permutation.

        Example:
            >>> similarity = Similarity(PermutationSpec.parse({"w": "h"}, sizes={"h": 2}))
            >>> similarity.add(Pair({"w": torch.ones(2)}, {"w": torch.tensor([4.0, 3.0])}))
            >>> similarity.linear_term().facets["h"]["h",]
            tensor([[4., 3.],
                    [4., 3.]])
        """
        if self.kept_bytes:
            kept = [name for name, parts in self._bilinear.items() if parts]
            raise SpecError(f"{kept[0]}: several groups move it, so its similarity is not fixed")
        facets = {
            tree: {facet: gain.float() for facet, gain in own.items()}
            for tree, own in self._facets.items()
        }
        return LinearTerm(facets, self.objective - total(self._traces(facets)))

    def add_linear_term(self, term: LinearTerm) -> None:
        """Add pairs that have been summed before."""
        for tree, own in term.facets.items():
            for facet, gain in own.items():
                self._collect(tree, facet, gain.double())
        self.objective += total(self._traces(term.facets)) + term.constant

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

        Raises:
            SpecError: There is no such outermost group, or its size is not `n`.

        Example:
            >>> similarity = Similarity(PermutationSpec.parse({"w": "h"}, sizes={"h": 2}))
            >>> similarity.add_similarity("h", torch.eye(2))
            >>> similarity.objective
            2.0
        """
        n = self.spec.sizes.get(group)
        if group not in self.trees or similarity.shape != (n, n):
            raise SpecError(
                f"{group}: no root group fits a similarity of {tuple(similarity.shape)}"
            )
        gain = similarity.to("cpu", torch.float64)
        self._collect(group, (group,), gain)
        self.objective += total(_trace(gain, self._indices[group]))

    def move_to(self, permutation: Permutation, *, solved: bool = False) -> None:
        """Take another permutation as the present one, all similarities corrected.

        Args:
            permutation: One of the spec.
            solved: Whether an earlier search ended there: then no tree counts as changed.

        Raises:
            SpecError: The permutation is not one of the spec.
        """
        permutation.check(self.spec)
        for tree, groups in self.trees.items():
            self.place(tree, {g: permutation.indices[g] for g in groups})
        self._changed = {} if solved else dict.fromkeys(self.trees)

    def place(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """Give a tree new indices, correct its neighbours; returns the gain in the objective.

        The objective is linear in the tree, or quadratic where the tree occupies two slots of one
        tensor; the mean of the slopes at both ends is exact for either.

        Args:
            tree: The root of the tree.
            indices: For each of its groups a tensor of shape `spec.shape_of(group)`, int64.
        """
        old = {g: self._indices[g] for g in self.trees[tree]}
        rise = self.value(tree, indices) - self.value(tree, old)
        self._indices.update(indices)
        for part in self._bilinear_of[tree]:
            self._move_part(part, tree)
        rise += self.value(tree, indices) - self.value(tree, old)
        self.objective += rise / 2
        return rise / 2

    def place_if_better(self, tree: str, indices: Mapping[str, Tensor], slack: float) -> None:
        """Give a tree new indices unless the objective gains no more than `slack`."""
        old = self.indices(tree)
        if self.place(tree, indices) <= slack:
            self.place(tree, old)
            self._changed.pop(tree, None)

    def _cut(self, name: str, shape: tuple[int, ...]) -> None:
        if name in self._shapes:
            return
        parts = cut(name, shape, self.spec)
        self._shapes[name] = shape
        self._single[name] = [part for part in parts if len(part.slots) < 2]
        self._bilinear[name] = [
            BilinearPart(part, [facet_index(slot.facet, self._indices) for slot in part.slots])
            for part in parts
            if len(part.slots) > 1
        ]
        for kept in self._bilinear[name]:
            for tree in {slot.tree for slot in kept.part.slots}:
                self._bilinear_of[tree].append(kept)

    def _add_tensor(self, name: str, target: Tensor, source: Tensor, weight: float) -> float:
        """Add one tensor of a pair; returns its term of the objective."""
        gained = 0.0
        for part in self._single[name]:
            gained += self._add_single(part, part.lay_out(target), part.lay_out(source), weight)
        for kept in self._bilinear[name]:
            gains = kept.add(target, source, weight, self._keep)
            for slot, gain in zip(kept.part.slots, gains, strict=True):
                self._collect(slot.tree, slot.facet, gain)
            gained += _trace(gains[0], kept.index[0])
        return gained

    def _add_single(self, part: Part, target: Tensor, source: Tensor, weight: float) -> float:
        """A part with one slot depends on no other group, so only its similarity is kept."""
        if not part.slots:
            return float((target.double() * source.double()).sum()) * weight
        (slot,) = part.slots
        gain = gram(target, source, 0) * weight
        self._collect(slot.tree, slot.facet, gain)
        return _trace(gain, facet_index(slot.facet, self._indices))

    def _expect(self, name: str) -> None:
        """Add zeros: another process adds this tensor."""
        for part in [*self._single[name], *(kept.part for kept in self._bilinear[name])]:
            for slot in part.slots:
                nothing = torch.zeros(slot.size, slot.size, dtype=torch.float64)
                self._collect(slot.tree, slot.facet, nothing)

    def _collect(self, tree: str, facet: Facet, gain: Tensor) -> None:
        facets = self._facets[tree]
        if facet in facets:
            facets[facet] += gain
        else:
            facets[facet] = gain
        self.mark_changed([tree])

    def _move_part(self, kept: BilinearPart, tree: str) -> None:
        for moved, slot in enumerate(kept.part.slots):
            if slot.tree != tree:
                continue
            index = facet_index(slot.facet, self._indices)
            if torch.equal(index, kept.index[moved]):
                continue
            for k, other in enumerate(kept.part.slots):
                if k != moved:
                    self._collect(other.tree, other.facet, kept.correction(k, moved, index))
            kept.index[moved] = index


def _trace(gain: Tensor, index: Tensor) -> float:
    return float(gain.gather(1, index[:, None]).sum())
