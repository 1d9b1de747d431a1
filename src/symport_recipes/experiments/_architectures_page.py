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

What `symport.discover` finds in each of {count} architectures. All are wired as the originals are,
with few units and random weights. Every row is proven:
random elements of the whole group change no output, in float64 and on random weights, by more than
the relative error in the last column. The number of groups is the one counted by hand from the
architecture; a test compares them.

{table}

`2×4/8` means two groups of 8 units inside each of 4 units of another group. Seconds are those of
`discover` with its proof, of one busy thread; the share of parameters counts every entry that some
element of the group moves. Inputs, classes, vocabularies and positions stay everywhere.

Made by `symport-recipes run architectures --out docs/results`.

## Component by component

{components}

## Recovered from weights

A network with random weights is permuted by a random element of its whole group and matched to
itself as it was, by weights alone. Counted are the seeds for which every group comes out exactly,
nested ones included; and as many for the same search from the identity, which is plain coordinate
ascent. `symport-recipes run planted --out docs/results`

```text
--8<-- "docs/results/planted.txt"
```

## What is not found

What is found is proven; what is left out stays in place, with its reason in `spec.reasons`.

{notes}
- **Experts and branches in a list.** Modules of their own in a `ModuleList` are different tensors.
  Exchanging two of them preserves the function, but a pattern permutes axes within a tensor, so it
  [cannot express that](../howto/nested.md#what-a-pattern-cannot-express). Experts that share one
  tensor are permuted, with their units. In transformers, this requires
  `experts_implementation="batched_mm"`, which `symport discover` sets: the grouped implementation
  sorts rows by expert, and the eager one loops over data.
- **Norm groups across a concatenation.** Where one group of a GroupNorm reads channels of two
  parts, these channels stay.
- **Places in a list.** What `x[..., [-2], :]` picks stays, as in Falcon: the list becomes a tensor,
  whose values are not read. A slice does the same and is followed.
- **Buffers.** A buffer is a constant that keeps its axes in place, unless it is a running statistic
  or named in `moving`.
- **Symmetries that are not permutations.** Flipping signs of units under tanh, in a stream with
  RMSNorm or of a whole stream with LayerNorm; rotating pairs of query and key units under rotary
  positions; scaling a unit after ReLU and its inverse; invertible maps of value units or of the
  ranks of an adapter; orthogonal maps of a stream whose gains are folded away. The kind of a group
  (`Group.kind`, today `permutation` or `fixed`) is where they would have their place.
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
