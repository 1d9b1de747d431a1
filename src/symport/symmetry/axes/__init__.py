"""How the axes of tensors are related by an operation: the registry that rules fill."""

from symport.symmetry.axes._distinct import entries, given, unsure
from symport.symmetry.axes._registry import (
    Axes,
    Call,
    Notes,
    Result,
    Value,
    broadcast,
    fresh,
    has_rule,
    pinned,
    pointwise,
    register_rule,
    rule_for,
    rule_of,
    unknown,
    values_in,
)
from symport.symmetry.axes._ties import Tie, joined, meeting, told
from symport.symmetry.axes._uniform import alike, copied, laid_out, told_apart

__all__ = [
    "Axes",
    "Call",
    "Notes",
    "Result",
    "Tie",
    "Value",
    "alike",
    "broadcast",
    "copied",
    "entries",
    "fresh",
    "given",
    "has_rule",
    "joined",
    "laid_out",
    "meeting",
    "pinned",
    "pointwise",
    "register_rule",
    "rule_for",
    "rule_of",
    "told",
    "told_apart",
    "unknown",
    "unsure",
    "values_in",
]
