"""The language of symmetries: patterns, permutation specs, permutations, and how these act."""

from symport.spec._drop import drop_trees
from symport.spec._pattern import (
    Axis,
    Block,
    Fixed,
    Pattern,
    Product,
    Sum,
    Unit,
    axis_blocks,
    axis_length,
    axis_terms,
    groups_in,
    parents,
    parse_pattern,
    root,
    show_pattern,
)
from symport.spec._permute import (
    axis_index,
    compose,
    invert,
    permute,
    permute_optimizer,
    permute_tensor,
    source_positions,
)
from symport.spec._spec import Group, Permutation, PermutationSpec

__all__ = [
    "Axis",
    "Block",
    "Fixed",
    "Group",
    "Pattern",
    "Permutation",
    "PermutationSpec",
    "Product",
    "Sum",
    "Unit",
    "axis_blocks",
    "axis_index",
    "axis_length",
    "axis_terms",
    "compose",
    "drop_trees",
    "groups_in",
    "invert",
    "parents",
    "parse_pattern",
    "permute",
    "permute_optimizer",
    "permute_tensor",
    "root",
    "show_pattern",
    "source_positions",
]
