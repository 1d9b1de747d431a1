"""Permutations found for, and applied to, checkpoints larger than memory."""

from symport.outofcore._matching import match_checkpoints
from symport.outofcore._row_blocks import outlined, row_shape, runs
from symport.outofcore._transport import outline_of, transport

__all__ = [
    "match_checkpoints",
    "outline_of",
    "outlined",
    "row_shape",
    "runs",
    "transport",
]
