"""Graphs rewritten so that layers, positions and parts of one tensor are read on their own."""

from symport.symmetry.rewrite._layouts import unlay
from symport.symmetry.rewrite._recurrent import unroll
from symport.symmetry.rewrite._slices import by_slices
from symport.symmetry.rewrite._split_stacked import unstack

__all__ = ["by_slices", "unlay", "unroll", "unstack"]
