"""A part of a tensor with several moving axes, where the similarity of one depends on the others.

Its pairs are kept, and its similarities are corrected when one of the axes is permuted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from symport.matching._unfolding import Part

CHUNK = 2**22  # elements gathered at a time: 16 MiB of float32, however many pairs there are


@dataclass(frozen=True, eq=False)
class UnfoldedPair:
    """One pair, laid out as `(rest, n_1, …, n_m)`."""

    target: Tensor
    source: Tensor
    weight: float


@dataclass(frozen=True, eq=False)
class BilinearPart:
    """The pairs of a part, and the present permutation of its slots.

    Attributes:
        part: How tensors are laid out.
        index: For each slot the source unit at each position, shape `(n,)`, int64.
        pairs: All pairs added so far.
    """

    part: Part
    index: list[Tensor]
    pairs: list[UnfoldedPair] = field(default_factory=list[UnfoldedPair])

    @property
    def nbytes(self) -> int:
        """The size of all pairs in bytes."""
        return sum(pair.target.nbytes + pair.source.nbytes for pair in self.pairs)

    def add(
        self, target: Tensor, source: Tensor, weight: float, dtype: torch.dtype | None = None
    ) -> list[Tensor]:
        """Keep a pair and return its similarity for each slot, shape `(n_k, n_k)`.

        Args:
            target: A tensor as `part` describes it, not yet laid out.
            source: Likewise.
            weight: The factor of the pair in the objective.
            dtype: The dtype in which the pair is kept, None for its own. The similarities are
                those of the rounded pair, so that later corrections agree with them.
        """
        sides = [self.part.lay_out(side).to(dtype or side.dtype) for side in (target, source)]
        pair = UnfoldedPair(sides[0].contiguous(), sides[1].contiguous(), weight)
        self.pairs.append(pair)
        return [self.similarity(k, pair) for k in range(len(self.index))]

    def similarity(self, slot: int, pair: UnfoldedPair) -> Tensor:
        """The similarity of one slot in a pair, the other slots at their present permutation."""
        return gram(pair.target, self._placed(pair.source, skip=(slot,)), slot) * pair.weight

    def correction(self, slot: int, moved: int, index: Tensor) -> Tensor:
        """The change in the similarity of `slot`, `(n_k, n_k)`, if slot `moved` takes `index`."""
        changed = (index != self.index[moved]).nonzero().squeeze(1)
        n = self.part.slots[slot].size
        total = torch.zeros(n, n, dtype=torch.float64)
        for chunk in self._chunks(len(changed) / len(index)):
            targets: list[Tensor] = []
            changes: list[Tensor] = []
            for pair in chunk:
                source = self._placed(pair.source, skip=(slot, moved))
                wide = torch.promote_types(source.dtype, torch.float32)
                change = take(source, moved, index[changed]).to(wide)
                change -= take(source, moved, self.index[moved][changed])
                targets.append(take(pair.target, moved, changed))
                changes.append(change if pair.weight == 1 else change * pair.weight)
            total += gram(torch.cat(targets), torch.cat(changes), slot)
        return total

    def _placed(self, source: Tensor, skip: tuple[int, ...]) -> Tensor:
        for slot, index in enumerate(self.index):
            if slot not in skip:
                source = take(source, slot, index)
        return source

    def _chunks(self, share: float) -> Iterator[list[UnfoldedPair]]:
        """Pairs in runs of which a share of the elements fills one chunk."""
        each = max(1, int(self.pairs[0].target.numel() * share)) if self.pairs else 1
        count = max(1, CHUNK // each)
        for begin in range(0, len(self.pairs), count):
            yield self.pairs[begin : begin + count]


def gram(target: Tensor, source: Tensor, slot: int) -> Tensor:
    """⟨target unit i, source unit j⟩ along one slot of `(rest, n_1, …, n_m)`, float64 on the CPU.

    The product is in float32, or in float64 for tensors of that dtype.

    Example:
        >>> gram(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), slot=0)
        tensor([[3., 4.],
                [6., 8.]], dtype=torch.float64)
    """
    dtype = torch.promote_types(target.dtype, torch.float32)
    a, b = target.to(dtype), source.to(dtype)
    if slot == target.ndim - 2:  # the last axis: no copy needed
        product = a.flatten(0, -2).T @ b.flatten(0, -2)
    else:
        product = a.movedim(slot + 1, 0).flatten(1) @ b.movedim(slot + 1, 0).flatten(1).T
    return product.to("cpu", torch.float64)


def take(tensor: Tensor, slot: int, index: Tensor) -> Tensor:
    """Gather units along one slot of `(rest, n_1, …, n_m)`; `index` has shape `(count,)`."""
    index = index.to(tensor.device)
    if slot == tensor.ndim - 2:
        return tensor[..., index]  # several times faster here than index_select, measured
    return tensor.index_select(slot + 1, index)
