"""Weight matching of checkpoints larger than memory, one tree of groups at a time.

`match` keeps all tensors that vary over several groups. Here they are read again instead, whenever
a tree is solved whose neighbours have moved: memory holds two tensors and the similarity of one
tree, whatever the depth. With the residual stream fixed no tree has a neighbour in a transformer,
so each is read and solved once, exactly.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from symport.matching import (
    ALIKE,
    MAX_SOLVES_PER_TREE,
    TOLERANCE,
    Facet,
    MatchResult,
    Pair,
    assign_tree,
    check_pair,
    cut,
    described_similarity,
    facet_index,
)
from symport.outofcore._row_blocks import outlined, permuted_rows, plain_rows, runs
from symport.params import Params, check_alike, check_finite
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

    The search starts at the identity, or, if groups depend on each other and the networks are
    alike in another order, at what no permutation can change, as that of `match` does.

    Args:
        old: The source: a `Checkpoint`, or any dict of tensors.
        new: The target; the same names and shapes.
        spec: The symmetry of both. Tensors without a pattern take no part.
        fixed: Groups that keep their order, with all that are nested in them.
        advance: Called with the name of each tree of groups when it is first solved.

    Returns:
        A permutation of `spec` that no change of a single tree of groups improves.

    Raises:
        ParamsError: Names or shapes differ, or a tensor holds NaN or infinity.
        SpecError: A tensor does not fit its pattern, or a group of `fixed` does not exist.
    """
    search = _Search(old, new, fix(spec, fixed, "fixed in this matching"))
    search.start()
    found = search.climb(advance)
    everything = {**Permutation.identity(spec).indices, **found.permutation.indices}
    return replace(found, permutation=Permutation(everything))


class _Search:
    """Coordinate ascent over the trees of a spec, from files."""

    def __init__(self, old: Params, new: Params, spec: PermutationSpec) -> None:
        self.old, self.new, self.spec = old, new, spec
        self.trees = spec.trees()
        # Overwritten, never replaced: small tensors that stay, made between large ones that go,
        # leave holes in the heap, and memory grew with depth (10 MB a layer, measured).
        self.indices = {g: i.clone() for g, i in Permutation.identity(spec).indices.items()}
        outline = spec.matched(outlined(new))
        source = spec.matched(outlined(old))
        check_alike(outline, source, "the new base", "the old base", dtypes=False)
        spec.check(outline)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in outline.items()}
        self.parts = {name: cut(name, shape, spec) for name, shape in self.shapes.items()}
        self.touching: dict[str, list[str]] = {tree: [] for tree in self.trees}
        for name, parts in self.parts.items():
            for tree in {slot.tree for part in parts for slot in part.slots}:
                self.touching[tree].append(name)
        self.objective = 0.0

    def neighbours(self, tree: str) -> set[str]:
        """The trees whose similarity changes when this one moves."""
        slots = [part.slots for name in self.touching[tree] for part in self.parts[name]]
        found = {slot.tree for others in slots for slot in others}
        return found if self.is_doubled(tree) else found - {tree}

    def start(self) -> None:
        """Begin at the identity, unless the networks are alike in another order."""
        self.objective, bound = self.measure()
        if self.objective >= ALIKE * bound or not any(map(self.neighbours, self.trees)):
            return
        identity = {group: index.clone() for group, index in self.indices.items()}
        for tree in self.trees:
            gains = self.gains(tree, described=True)
            self.move(assign_tree(self.spec, tree, gains, self.of(tree)).indices)
        value, _ = self.measure()
        if value >= ALIKE * bound:
            self.objective = value
        else:
            self.move(identity)

    def climb(self, advance: Callable[[str], object]) -> MatchResult:
        """Improve one tree after the other until none can gain by itself."""
        waiting, solves, new = list(self.trees), 0, set(self.trees)
        limit = MAX_SOLVES_PER_TREE * len(waiting)
        while waiting and solves < limit:
            tree = waiting.pop(0)
            solves += 1
            is_better = self.improve(tree)
            if tree in new:
                new.remove(tree)
                advance(tree)
            if is_better:
                waiting += sorted(self.neighbours(tree).difference(waiting))
        value = self.objective
        return MatchResult(Permutation(self.indices), value, solves, not waiting, (value,))

    def improve(self, tree: str) -> bool:
        """Solve a tree; whether it gained more than rounding explains.

        As in `Similarity.place`, a tree that stands twice in a tensor gains the mean of the slopes
        at both ends, and goes back if that is no gain.
        """
        gains, before = self.gains(tree), self.of(tree)
        after = assign_tree(self.spec, tree, gains, before).indices
        slack = TOLERANCE * (abs(_value(gains, before)) + abs(_value(gains, after)))
        rise = _value(gains, after) - _value(gains, before)
        if rise <= slack:
            return False
        self.move(after)
        if self.is_doubled(tree):
            gains = self.gains(tree)
            rise = (rise + _value(gains, after) - _value(gains, before)) / 2
        if rise <= slack:
            self.move(before)
            return False
        self.objective += rise
        return True

    def of(self, tree: str) -> dict[str, Tensor]:
        """The present indices of a tree, which stay as they are when it moves."""
        return {group: self.indices[group].clone() for group in self.trees[tree]}

    def move(self, indices: Mapping[str, Tensor]) -> None:
        """Take other indices for some groups."""
        for group, index in indices.items():
            self.indices[group].copy_(index)

    def is_doubled(self, tree: str) -> bool:
        """Whether some tensor varies over two units of the tree."""
        parts = [part for name in self.touching[tree] for part in self.parts[name]]
        return any([slot.tree for slot in part.slots].count(tree) > 1 for part in parts)

    def gains(self, tree: str, *, described: bool = False) -> dict[Facet, Tensor]:
        """The similarity of each facet of a tree, the other trees as they stand, or unknown."""
        found: dict[Facet, Tensor] = {}
        for name in self.touching[tree]:
            self.add_tensor_(found, tree, name, described=described)
        return found

    def add_tensor_(
        self, found: dict[Facet, Tensor], tree: str, name: str, *, described: bool
    ) -> None:
        """Add what one tensor says; it is let go before the next one is read."""
        pair = Pair({name: self.new[name]}, {name: self.old[name]})
        check_pair(pair, self.spec)
        for part in self.parts[name]:
            target, source = (part.lay_out(side[name]) for side in (pair.target, pair.source))
            for k, slot in enumerate(part.slots):
                if slot.tree == tree:
                    total = found.setdefault(slot.facet, _zeros(slot.size))
                    if described and len(part.slots) > 1:
                        total += described_similarity(target, source, k)
                    else:
                        places = [facet_index(other.facet, self.indices) for other in part.slots]
                        add_gram_(total, target, source, k, places)

    def measure(self) -> tuple[float, float]:
        """Σ ⟨target, P(source)⟩ as it stands, and its bound Σ |target| |source|, in float64."""
        totals = torch.zeros(3, dtype=torch.float64)
        for name in self.shapes:
            found = self.products(name)
            if not found.isfinite().all():
                check_finite({name: self.new[name]}, "the new base")
                check_finite({name: self.old[name]}, "the old base")
            totals += found
        product, first, second = totals.tolist()
        return product, (first * second) ** 0.5

    def products(self, name: str) -> Tensor:
        """⟨target, P(source)⟩, |target|² and |source|² of one tensor, in float64."""
        pattern, permutation = self.spec.patterns[name], Permutation(self.indices)
        target = plain_rows(self.new, name)
        source = permuted_rows(self.old, name, pattern, permutation)
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
        total: What to add to, float64, `(n_slot, n_slot)`.
        target: Laid out as `(rest, n_1, …, n_m)`.
        source: Laid out likewise.
        slot: Which slot, from 0.
        places: The source unit at each position of every slot.
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


def _value(gains: Mapping[Facet, Tensor], indices: Mapping[str, Tensor]) -> float:
    return sum(
        float(gain.gather(1, facet_index(facet, indices)[:, None]).sum())
        for facet, gain in gains.items()
    )


def _zeros(size: int) -> Tensor:
    return torch.zeros(size, size, dtype=torch.float64)
