"""Proofs that a spec is a symmetry, by random elements of its group in float64."""

from symport.symmetry.proof._trial import nothing_to_compare
from symport.symmetry.proof._verify import Proof, verify

__all__ = ["Proof", "nothing_to_compare", "verify"]
