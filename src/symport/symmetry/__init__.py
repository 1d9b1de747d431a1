"""Find the permutation symmetry of any network, and prove it."""

from symport.symmetry._discover import discover
from symport.symmetry._terms import Term, fix, product, split, tie, total
from symport.symmetry.axes import Call, Value, register_rule
from symport.symmetry.graph import Example, trace
from symport.symmetry.proof import Proof, verify

__all__ = [
    "Call",
    "Example",
    "Proof",
    "Term",
    "Value",
    "discover",
    "fix",
    "product",
    "register_rule",
    "split",
    "tie",
    "total",
    "trace",
    "verify",
]
