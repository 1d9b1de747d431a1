"""Find the permutation under which pairs of tensors are most similar."""

from symport.matching._assignment import BONUS, assign
from symport.matching._coordinate_ascent import (
    MAX_SOLVES_PER_TREE,
    TOLERANCE,
    MatchResult,
    match,
    solve,
    solve_afresh,
    solve_from,
)
from symport.matching._invariants import ALIKE, best_start, described_similarity, invariant_start
from symport.matching._objectives import gradients, weights
from symport.matching._similarity import Gains, Pair, Similarity, check_pair
from symport.matching._unfolding import Part, cut
from symport.matching._wreath import Facet, TreeAssignment, assign_tree, facet_index

__all__ = [
    "ALIKE",
    "BONUS",
    "MAX_SOLVES_PER_TREE",
    "TOLERANCE",
    "Facet",
    "Gains",
    "MatchResult",
    "Pair",
    "Part",
    "Similarity",
    "TreeAssignment",
    "assign",
    "assign_tree",
    "best_start",
    "check_pair",
    "cut",
    "described_similarity",
    "facet_index",
    "gradients",
    "invariant_start",
    "match",
    "solve",
    "solve_afresh",
    "solve_from",
    "weights",
]
