"""Choose a few elements of a spec's group that no proper subgroup of the claimed kind contains.

The elements under which a network keeps its function form a group H. A spec that claims more than
H is refuted by any element that it claims and H lacks, so a few elements are chosen that a smaller
H cannot all contain. What may move is a *set*: the units of a group in one unit of its parents.

* Each set moves in some elements and is fixed in others, and no two sets of a group, nor two
  outermost groups, have the same pattern. So an H in which two of them only move together lacks one
  of the elements.
* The first time a set moves, it is permuted by a full cycle; the second time, two neighbours of the
  cycle are exchanged. These two generate all its permutations, so an H that lacks any of them lacks
  one of the two.

The number of elements grows with the logarithm of the number of sets, as in group testing.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from symport.spec import Group, Permutation, PermutationSpec

FEWEST, MOST = 4, 8  # elements; 8 distinguish 247 sets for certain, and more by chance
Word = tuple[bool, ...]


def elements(spec: PermutationSpec, generator: Generator) -> list[Permutation]:
    """A few elements that are all symmetries only if every element of the group is.

    Args:
        spec: Groups of kind `fixed` and groups of one unit are not moved.
        generator: Draws the elements.

    Example:
        >>> spec = PermutationSpec.parse({"w": "a b", "v": "c d"}, sizes=dict.fromkeys("abcd", 2))
        >>> drawn = elements(spec, Generator().manual_seed(0))
        >>> words = {tuple(p.indices[name][0].item() for p in drawn) for name in "abcd"}
        >>> len(drawn), len(words)  # four words of four letters, all different
        (4, 4)
    """
    free = [name for name, group in spec.groups.items() if moves(group)]
    if not free:
        return []
    rows = {name: math.prod(spec.shape_of(name)[:-1]) for name in free}
    outermost = [name for name in free if "/" not in name]
    pool = _words(max(len(outermost), *rows.values()))
    dealt = _dealt(pool, len(outermost), generator)
    words = {name: [word] for name, word in zip(outermost, dealt, strict=True)}
    words |= {name: _dealt(pool, rows[name], generator) for name in free if name not in words}
    drawn = {name: [_moves(spec.groups[name].size, w, generator) for w in words[name]]
             for name in free}  # fmt: skip
    identity = Permutation.identity(spec).indices
    return [
        Permutation(
            {
                name: torch.stack([row[k] for row in drawn[name]]).reshape(identity[name].shape)
                if name in drawn
                else identity[name]
                for name in spec.groups
            }
        )
        for k in range(len(pool[0]))
    ]


def moves(group: Group) -> bool:
    """Whether a group has anything that can move."""
    return group.kind != "fixed" and group.size > 1


def restricted(element: Permutation, spec: PermutationSpec, roots: Sequence[str]) -> Permutation:
    """The element restricted to the groups of some trees; all others are left as they are."""
    identity = Permutation.identity(spec).indices
    names = {name for root in roots for name in spec.trees()[root]}
    return Permutation(
        {g: index if g in names else identity[g] for g, index in element.indices.items()}
    )


def _words(count: int) -> list[Word]:
    """Words, each the elements in which a set moves: at least `count` distinct ones if possible.

    Each has two moves or more.

    Example:
        >>> len(_words(3)), len(_words(12)), len(_words(10**6))
        (11, 26, 247)
    """
    length = next((k for k in range(FEWEST, MOST) if 2**k - 1 - k >= count), MOST)
    return [w for w in itertools.product([False, True], repeat=length) if sum(w) > 1]


def _dealt(pool: Sequence[Word], count: int, generator: Generator) -> list[Word]:
    """Distinct words, as long as there are enough."""
    dealt: list[Word] = []
    while len(dealt) < count:
        order = torch.randperm(len(pool), generator=generator).tolist()
        dealt += [pool[k] for k in order]
    return dealt[:count]


def _moves(size: int, word: Word, generator: Generator) -> list[Tensor]:
    """One permutation for each letter of a word; the identity where the letter is false."""
    moving = _drawn(size, generator)
    return [next(moving) if moves else torch.arange(size) for moves in word]


def _drawn(size: int, generator: Generator) -> Iterator[Tensor]:
    """A full cycle, a swap of two neighbours in it, then random permutations but the identity."""
    order = torch.randperm(size, generator=generator)
    circle, pair = torch.arange(size), torch.arange(size)
    circle[order] = order.roll(1)
    pair[order[:2]] = order[:2].flip(0)
    yield circle
    yield pair
    while True:
        drawn = torch.randperm(size, generator=generator)
        yield drawn.roll(1) if torch.equal(drawn, torch.arange(size)) else drawn
