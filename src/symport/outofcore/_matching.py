"""Weight matching of checkpoints larger than memory, one tree of groups at a time.

`match` keeps all tensors that vary over several groups. Here they are read again instead, whenever
a tree is solved whose neighbours have moved: memory holds two tensors and the similarity of one
tree, whatever the depth. With the residual stream fixed no tree has a neighbour in a transformer,
so each is read and solved once, exactly.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from symport.matching import (
    COPY_COSINE,
    Facet,
    MatchResult,
    Pair,
    assign_tree,
    check_pair,
    cut,
    facet_index,
    invariant_similarity,
    solve,
)
from symport.outofcore._row_blocks import outlined, permuted_rows, plain_rows, runs
from symport.params import Params, check_finite, check_same_structure
from symport.spec import Permutation, PermutationSpec, fix

CHUNK = 2**23  # elements converted to float32 at a time: 32 MiB


def match_checkpoints(
    old: Params,
    new: Params,
    spec: PermutationSpec,
    *,
    fixed: Collection[str] = (),
    advance: Callable[[str], object] = len,
) -> MatchResult:
    """Align the weights of `old` with those of `new`, reading two tensors at a time.

    The search starts at the identity. As in `match`, it starts at the permutation found from
    invariants instead if the networks turn out to be copies in another order; only where some
    groups depend on each other.

    Args:
        old: The source: a `Checkpoint`, or any dict of tensors.
        new: The target; the same names and shapes.
        spec: The symmetry of both. Tensors without a pattern take no part.
        fixed: Groups that keep their order, with all that are nested in them.
        advance: Called with the root of each tree of groups when it is first solved.

    Returns:
        A permutation of `spec` that no change of a single tree of groups improves.

    Raises:
        ParamsError: Names or shapes differ, or a tensor holds NaN or infinity.
        SpecError: A tensor does not fit its pattern, or a group of `fixed` does not exist.

    Example:
        >>> spec = PermutationSpec.parse({"w": "h d"}, sizes={"h": 2, "d": 3})
        >>> old = {"w": torch.tensor([[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]])}
        >>> new = {"w": old["w"].flip(0)}
        >>> match_checkpoints(old, new, spec, fixed=["d"]).permutation.indices
        {'d': tensor([0, 1, 2]), 'h': tensor([1, 0])}
    """
    matching = _FromFiles(old, new, fix(spec, fixed, "fixed in this matching"))
    matching.choose_start()
    unsolved = set(matching.trees)

    def first(tree: str) -> None:
        if tree in unsolved:
            unsolved.remove(tree)
            advance(tree)

    found = solve(matching, advance=first)
    everything = {**Permutation.identity(spec).indices, **found.permutation.indices}
    return replace(found, permutation=Permutation(everything))


class _FromFiles:
    """A `Matching` whose similarities are computed from files whenever a tree is solved."""

    is_parallel = False  # the similarity of one tree is in memory at a time

    def __init__(self, old: Params, new: Params, spec: PermutationSpec) -> None:
        self.old, self.new, self.spec = old, new, spec
        self.trees = spec.trees()
        # Overwritten, never replaced: small tensors that stay, made between large ones that go,
        # leave holes in the heap, and memory grew with depth (10 MB a layer, measured).
        self._indices = {g: i.clone() for g, i in Permutation.identity(spec).indices.items()}
        outline = spec.matched(outlined(new))
        source = spec.matched(outlined(old))
        check_same_structure(outline, source, "the new base", "the old base", dtypes=False)
        spec.check(outline)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in outline.items()}
        self.parts = {name: cut(name, shape, spec) for name, shape in self.shapes.items()}
        self.touching: dict[str, list[str]] = {tree: [] for tree in self.trees}
        for name, parts in self.parts.items():
            for tree in {slot.tree for part in parts for slot in part.slots}:
                self.touching[tree].append(name)
        self.objective = 0.0
        self._last: tuple[str, Mapping[Facet, Tensor]] = "", {}
        self._changed: list[str] = []
        self.mark_changed(self.trees)

    @property
    def permutation(self) -> Permutation:
        """The present permutation."""
        return Permutation(self._indices)

    def gains(self, tree: str) -> Mapping[Facet, Tensor]:
        """The similarity of each facet of a tree, the other trees as they are; read anew."""
        self._last = "", {}  # let go before the next is computed
        self._last = tree, self._similarities(tree)
        return self._last[1]

    def indices(self, tree: str) -> dict[str, Tensor]:
        """Copies of the present indices of a tree."""
        return {group: self._indices[group].clone() for group in self.trees[tree]}

    def value(self, tree: str, indices: Mapping[str, Tensor]) -> float:
        """The summed similarity under some indices, with the gains as they were last read."""
        name, gains = self._last
        return sum(
            float(gain.gather(1, facet_index(facet, indices)[:, None]).sum())
            for facet, gain in (gains if name == tree else self.gains(tree)).items()
        )

    def neighbours(self, tree: str) -> set[str]:
        """The trees whose similarity depends on this one."""
        slots = [part.slots for name in self.touching[tree] for part in self.parts[name]]
        found = {slot.tree for others in slots for slot in others}
        return found if self._is_doubled(tree) else found - {tree}

    def place_if_better(self, tree: str, indices: Mapping[str, Tensor], slack: float) -> None:
        """Give a tree new indices unless the objective gains no more than `slack`.

        As in `Similarity.place`, a tree on two axes of one tensor gains the mean of the slopes at
        both ends.
        """
        before = self.indices(tree)
        rise = self.value(tree, indices) - self.value(tree, before)
        self._move(indices)
        if self._is_doubled(tree):
            self.gains(tree)
            rise = (rise + self.value(tree, indices) - self.value(tree, before)) / 2
        self._last = "", {}
        if rise <= slack:
            self._move(before)
            return
        self.objective += rise
        self.mark_changed(sorted(self.neighbours(tree)))

    def take_changed(self) -> list[str]:
        """The trees whose similarity has changed since the last call."""
        changed, self._changed = self._changed, []
        return changed

    def mark_changed(self, trees: Iterable[str]) -> None:
        """Have `take_changed` return these trees too."""
        self._changed += [tree for tree in trees if tree not in self._changed]

    def choose_start(self) -> None:
        """Start at the identity, or from invariants if the networks are copies under these."""
        self.objective, bound = self._measure()
        if self.objective >= COPY_COSINE * bound or not any(map(self.neighbours, self.trees)):
            return
        identity = {group: index.clone() for group, index in self._indices.items()}
        for tree in self.trees:
            gains = self._similarities(tree, invariant=True)
            self._move(assign_tree(self.spec, tree, gains, self.indices(tree)).indices)
        value, _ = self._measure()
        if value >= COPY_COSINE * bound:
            self.objective = value
        else:
            self._move(identity)

    def _move(self, indices: Mapping[str, Tensor]) -> None:
        for group, index in indices.items():
            self._indices[group].copy_(index)

    def _is_doubled(self, tree: str) -> bool:
        """Whether some tensor varies over two units of the tree."""
        parts = [part for name in self.touching[tree] for part in self.parts[name]]
        return any([slot.tree for slot in part.slots].count(tree) > 1 for part in parts)

    def _similarities(self, tree: str, *, invariant: bool = False) -> dict[Facet, Tensor]:
        """The similarity of each facet of a tree, given the other trees or by invariants alone."""
        found: dict[Facet, Tensor] = {}
        for name in self.touching[tree]:
            self._add_tensor_(found, tree, name, invariant=invariant)
        return found

    def _add_tensor_(
        self, found: dict[Facet, Tensor], tree: str, name: str, *, invariant: bool
    ) -> None:
        """Add the similarities in one tensor, which is let go before the next one is read."""
        pair = Pair({name: self.new[name]}, {name: self.old[name]})
        check_pair(pair, self.spec)
        for part in self.parts[name]:
            target, source = (part.lay_out(side[name]) for side in (pair.target, pair.source))
            for k, slot in enumerate(part.slots):
                if slot.tree == tree:
                    total = found.setdefault(slot.facet, _zeros(slot.size))
                    if invariant and len(part.slots) > 1:
                        total += invariant_similarity(target, source, k)
                    else:
                        places = [facet_index(other.facet, self._indices) for other in part.slots]
                        add_gram_(total, target, source, k, places)

    def _measure(self) -> tuple[float, float]:
        """Σ ⟨target, P(source)⟩ and its bound |target| |source|, in float64."""
        totals = torch.zeros(3, dtype=torch.float64)
        for name in self.shapes:
            found = self._products(name)
            if not found.isfinite().all():
                check_finite({name: self.new[name]}, "the new base")
                check_finite({name: self.old[name]}, "the old base")
            totals += found
        product, first, second = totals.tolist()
        return product, (first * second) ** 0.5

    def _products(self, name: str) -> Tensor:
        """⟨target, P(source)⟩, |target|² and |source|² of one tensor, in float64."""
        pattern = self.spec.patterns[name]
        target = plain_rows(self.new, name)
        source = permuted_rows(self.old, name, pattern, self.permutation)
        totals = torch.zeros(3, dtype=torch.float64)
        for run in runs(self.shapes[name] or (1,)):
            a, b = (rows(run.start, run.stop).double().flatten() for rows in (target, source))
            totals += torch.stack([a @ b, a @ a, b @ b])
        return totals


def add_gram_(
    total: Tensor, target: Tensor, source: Tensor, slot: int, places: Sequence[Tensor]
) -> None:
    """Add ⟨target unit i, source unit j⟩ along one slot, the source's other slots placed.

    Args:
        total: Is added to, float64, `(n_slot, n_slot)`.
        target: Shape `(rest, n_1, …, n_m)`.
        source: Shape `(rest, n_1, …, n_m)`.
        slot: Which slot, from 0.
        places: The source unit at each position of every slot, each of shape `(n_k,)`, int64.

    Example:
        >>> total = torch.zeros(2, 2, dtype=torch.float64)
        >>> a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
        >>> add_gram_(total, a, b, slot=0, places=[torch.tensor([0, 1])])
        >>> total
        tensor([[3., 4.],
                [6., 8.]], dtype=torch.float64)
    """
    wide = torch.promote_types(target.dtype, torch.float32)
    lengths = [0 if dim == slot + 1 else n for dim, n in enumerate(target.shape)]
    longest = max(range(target.ndim), key=lengths.__getitem__)
    step = max(1, CHUNK * lengths[longest] // max(1, target.numel()))
    for start in range(0, lengths[longest], step):
        run = slice(start, min(start + step, lengths[longest]))
        a = target.narrow(longest, run.start, run.stop - run.start)
        b = source.narrow(longest, run.start, run.stop - run.start) if longest == 0 else source
        for k, index in enumerate(places):
            if k != slot:
                b = b.index_select(k + 1, index[run] if k + 1 == longest else index)
        a, b = (x.movedim(slot + 1, 0).flatten(1).to(wide) for x in (a, b))
        total += a @ b.T  # a float32 product goes into the float64 sum without a copy of it


def _zeros(size: int) -> Tensor:
    return torch.zeros(size, size, dtype=torch.float64)
