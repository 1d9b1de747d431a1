"""Write the page of architectures: `python -m symport_recipes.zoo --out docs/results`."""

import argparse
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from symport.files import write_text
from symport_recipes.zoo import ZOO, Architecture, Finding, measure

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
the relative error in the last column.

{table}

`2×4/8` means two groups of 8 units inside each of 4 units of another group. Seconds are those of
`discover` with its proof, of one busy thread; the share of parameters counts every entry that some
element of the group moves. Inputs, classes, vocabularies and positions stay everywhere.

Made by `python -m symport_recipes.zoo --out docs/results`.

## What is not found

What is found is proven; what is left out stays in place, with its reason in `spec.reasons`.

{notes}
- **Norm groups across a concatenation.** Where one group of a GroupNorm reads channels of two
  parts, these channels stay.
- **Experts in a list.** Experts that are modules of their own, in a `ModuleList`, stay in place:
  which of them runs is decided by data. With one tensor for all experts they move, with their
  units inside. In transformers that is `experts_implementation="batched_mm"`; the grouped path
  sorts rows by expert and keeps experts in place.
- **Buffers.** A buffer is a constant that keeps its axes in place, unless it is a running statistic
  or named in `moving`.
- **Symmetries that are not permutations.** Flipping signs in a stream with RMSNorm, rotating pairs
  of query and key units under rotary positions, scaling a unit and its inverse, any orthogonal map
  of value units: none is a permutation, and none is found. The kind of a group (`Group.kind`) is
  where they would have their place.
"""


def main(folder: Path) -> None:
    """Find and prove all symmetries, and write `architectures.md` into a folder."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    findings: list[Finding] = []
    for architecture in ZOO:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="transformers")
            findings.append(measure(architecture).finding)
        print(*_cells(findings[-1]), sep="  ", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "architectures.md", page(findings, ZOO))


def page(findings: Sequence[Finding], architectures: Sequence[Architecture]) -> str:
    """What was found as a page of the documentation."""
    cells = [HEADER, ("---", "--:", "---", "--:", "--:", "--:"), *map(_cells, findings)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    noted = [a for a in architectures if a.note]
    notes = "\n".join(f"- **{a.name}**: {a.note}." for a in noted)
    return PAGE.format(count=len(findings), table=table, notes=notes)


def _cells(found: Finding) -> tuple[str, ...]:
    return (
        found.name,
        str(found.groups),
        found.sizes,
        f"{100 * found.share:.1f} %",
        f"{found.seconds:.1f}",
        f"{found.error:.0e}",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    main(parser.parse_args().out)
