"""The language of symmetries: patterns, permutation specs, permutations, and how these act."""

from symport.spec._fix import fix
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
    groups_in,
    parents,
    parse_pattern,
    root,
    show_pattern,
)
from symport.spec._permutation import Permutation
from symport.spec._permute import (
    axis_index,
    compose,
    invert,
    is_linked,
    permute,
    permute_optimizer,
    permute_tensor,
)
from symport.spec._spec import Group, PermutationSpec

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
    "compose",
    "fix",
    "groups_in",
    "invert",
    "is_linked",
    "parents",
    "parse_pattern",
    "permute",
    "permute_optimizer",
    "permute_tensor",
    "root",
    "show_pattern",
]
