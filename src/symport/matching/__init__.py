"""Find the permutation under which pairs of tensors are most similar."""

from symport.matching._assignment import TIE_BREAK, assign
from symport.matching._coordinate_ascent import (
    Matching,
    MatchResult,
    match,
    solve,
    solve_with_restart,
)
from symport.matching._invariants import (
    COPY_COSINE,
    best_start,
    invariant_similarity,
)
from symport.matching._objectives import gradients, weights
from symport.matching._pair import LinearTerm, Pair, check_pair
from symport.matching._similarity import Similarity
from symport.matching._unfolding import Part, cut
from symport.matching._wreath import Facet, TreeAssignment, assign_tree, facet_index

__all__ = [
    "COPY_COSINE",
    "TIE_BREAK",
    "Facet",
    "LinearTerm",
    "MatchResult",
    "Matching",
    "Pair",
    "Part",
    "Similarity",
    "TreeAssignment",
    "assign",
    "assign_tree",
    "best_start",
    "check_pair",
    "cut",
    "facet_index",
    "gradients",
    "invariant_similarity",
    "match",
    "solve",
    "solve_with_restart",
    "weights",
]
