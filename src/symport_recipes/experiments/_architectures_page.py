"""The page of architectures: what is found and proven in each of the zoo."""

from collections.abc import Iterable, Sequence

from symport_recipes.experiments._architectures import Finding
from symport_recipes.networks import COMPONENTS, Architecture

HEADER = (
    "architecture",
    "groups",
    "sizes",
    "parameters that move",
    "seconds",
    "error of the proof",
)
PAGE = """# Architectures

What `symport.discover` finds in each of {count} architectures. All have the structure of the
originals, with few units and random weights. Every row is verified: random elements of the whole
group change the outputs, in float64, by at most the relative error in the last column. The number
of groups is equal to the number counted by hand, which a test compares.

{table}

`2×4/8` means two groups of 8 units within each of 4 units of another group. The seconds are the
processor time of `discover`, verification included. The share of parameters counts every entry that
some element of the group moves. Inputs, classes, vocabularies and positions are always fixed.

Made by `symport-recipes run architectures --out docs/results`.

## Component by component

{components}

## Recovered from weights

A network with random weights is permuted by a random element of its whole group, and the original
is matched to the permuted network by weight matching. The table counts the seeds for which the
permutation of every group is recovered exactly, nested groups included, with symport's starting
point and from the identity, which is plain coordinate ascent.
`symport-recipes run planted --out docs/results`

```text
--8<-- "docs/results/planted.txt"
```

## What is not found

Axes outside the groups that are found and verified are fixed; `spec.reasons` gives the reason of
each.

{notes}
- **Experts and branches in a list.** Modules of their own in a `ModuleList` are different tensors.
  Exchanging two of them preserves the function, but a pattern permutes axes within a tensor, so it
  [cannot express that](../howto/nested.md#what-a-pattern-cannot-express). Experts that share one
  tensor are permuted, with their units. In transformers, this requires
  `experts_implementation="batched_mm"`, which `symport discover` sets: the grouped implementation
  sorts rows by expert, and the eager one loops over data.
- **Norm groups across a concatenation.** If a group of a GroupNorm spans channels of two
  concatenated parts, these channels are fixed.
- **Positions in a list.** What `x[..., [-2], :]` selects, as in Falcon, is fixed: the list becomes
  a tensor, whose values are not traced. An equivalent slice is traced.
- **Buffers.** A buffer is a constant that fixes its axes, unless it is a running statistic or named
  in `moving`.
- **Symmetries that are not permutations.** Signs of units under tanh, in a stream with RMSNorm, or
  of a whole stream with LayerNorm; rotations of pairs of query and key units under rotary
  positions; scales of a unit after ReLU; invertible maps of value units or of the ranks of an
  adapter; orthogonal maps of a stream whose gains are folded into other weights. These would be
  further kinds of groups (`Group.kind` is `permutation` or `fixed` today).
"""


def page(findings: Sequence[Finding], architectures: Sequence[Architecture]) -> str:
    """What was found as a page of the documentation."""
    cells = [HEADER, ("---", "--:", "---", "--:", "--:", "--:"), *map(_cells, findings)]
    noted = [a for a in architectures if a.note]
    rows = [("component", "what moves", "shown by"), ("---", "---", "---")]
    rows += [(c.name, c.found, ", ".join(c.shown_by)) for c in COMPONENTS]
    notes = "\n".join(f"- **{a.name}**: {a.note}." for a in noted)
    return PAGE.format(
        count=len(findings), table=_table(cells), components=_table(rows), notes=notes
    )


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(found: Finding) -> tuple[str, ...]:
    return (
        found.name,
        str(found.groups),
        found.sizes,
        f"{100 * found.share:.1f} %",
        f"{found.seconds:.1f}",
        f"{found.error:.0e}",
    )
