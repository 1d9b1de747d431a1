"""Rewriting graphs so that layers, positions and parts of one tensor are read separately."""

from symport.symmetry.rewrite._layouts import resolve_stacks
from symport.symmetry.rewrite._recurrent import unroll
from symport.symmetry.rewrite._slices import index_by_slices
from symport.symmetry.rewrite._split_stacked import split_stacked

__all__ = ["index_by_slices", "resolve_stacks", "split_stacked", "unroll"]
