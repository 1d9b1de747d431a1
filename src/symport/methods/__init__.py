"""Methods that choose a permutation for each step, and the one loop that drives them."""

from symport.methods._activation_matching import ActivationMatching
from symport.methods._base import (
    Cost,
    Memory,
    Method,
    Problem,
    SinglePermutation,
    State,
    place,
)
from symport.methods._given import GivenPermutation
from symport.methods._gradient_matching import FGMT, GMT, GradientMatching, Start
from symport.methods._identity import Identity
from symport.methods._journal import StepRecord, claim_folder, refuse_foreign
from symport.methods._loop import Finish, check_fit, explore, transfer
from symport.methods._oracle import Oracle
from symport.methods._registry import REGISTRY, Available, MakeGradient, make_method, takes
from symport.methods._result import Candidate, Explored, TransferResult, comparable
from symport.methods._weight_matching import WeightMatching

__all__ = [
    "FGMT",
    "GMT",
    "REGISTRY",
    "ActivationMatching",
    "Available",
    "Candidate",
    "Cost",
    "Explored",
    "Finish",
    "GivenPermutation",
    "GradientMatching",
    "Identity",
    "MakeGradient",
    "Memory",
    "Method",
    "Oracle",
    "Problem",
    "SinglePermutation",
    "Start",
    "State",
    "StepRecord",
    "TransferResult",
    "WeightMatching",
    "check_fit",
    "claim_folder",
    "comparable",
    "explore",
    "make_method",
    "place",
    "refuse_foreign",
    "takes",
    "transfer",
]
