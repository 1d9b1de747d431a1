"""Find the permutation symmetry of any network, and prove it."""

from symport.symmetry._discover import discover
from symport.symmetry._terms import Term, pin, tie
from symport.symmetry.axes import Call, register_rule
from symport.symmetry.graph import Example, trace
from symport.symmetry.proof import Proof, verify

__all__ = [
    "Call",
    "Example",
    "Proof",
    "Term",
    "discover",
    "pin",
    "register_rule",
    "tie",
    "trace",
    "verify",
]
