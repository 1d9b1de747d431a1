"""How each operation relates the axes of its inputs and results, grouped by theme.

Importing this package registers the rules.
"""

from symport.symmetry.rules import (
    attention,
    elementwise,
    fourier,
    index,
    layout,
    linear,
    make,
    norm,
    pool,
    recurrent,
    reduce,
    spatial,
    write,
)

__all__ = [
    "attention",
    "elementwise",
    "fourier",
    "index",
    "layout",
    "linear",
    "make",
    "norm",
    "pool",
    "recurrent",
    "reduce",
    "spatial",
    "write",
]
