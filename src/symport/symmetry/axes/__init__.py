"""What rules work with: calls of operations, values with their axes, and the registry of rules."""

from symport.symmetry.axes._distinct import result_entries, source_entries, why_undecided
from symport.symmetry.axes._registry import (
    Axes,
    Call,
    Notes,
    Result,
    Value,
    broadcast,
    fixed,
    fresh,
    has_rule,
    pointwise,
    register_rule,
    rule_for,
    rule_of,
    unknown,
    values_in,
)
from symport.symmetry.axes._ties import Tie, describe_ties, free_units, new_ties
from symport.symmetry.axes._uniform import copied, distinct_atoms, laid_out, uniform_atoms

__all__ = [
    "Axes",
    "Call",
    "Notes",
    "Result",
    "Tie",
    "Value",
    "broadcast",
    "copied",
    "describe_ties",
    "distinct_atoms",
    "fixed",
    "free_units",
    "fresh",
    "has_rule",
    "laid_out",
    "new_ties",
    "pointwise",
    "register_rule",
    "result_entries",
    "rule_for",
    "rule_of",
    "source_entries",
    "uniform_atoms",
    "unknown",
    "values_in",
    "why_undecided",
]
