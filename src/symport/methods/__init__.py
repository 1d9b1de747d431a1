"""Methods that choose a permutation for each step, and the one loop that drives them."""

from symport.methods._base import (
    ActivationMatching,
    Given,
    Identity,
    Method,
    Once,
    Oracle,
    Problem,
    State,
    WeightMatching,
    place,
)
from symport.methods._gradient_matching import FGMT, GMT, GradientMatching, Start
from symport.methods._journal import Journal, StepRecord, refuse_foreign
from symport.methods._loop import (
    Candidate,
    Explored,
    Finish,
    Kind,
    TransferResult,
    check_fit,
    explore,
    transfer,
    worth,
)

__all__ = [
    "FGMT",
    "GMT",
    "ActivationMatching",
    "Candidate",
    "Explored",
    "Finish",
    "Given",
    "GradientMatching",
    "Identity",
    "Journal",
    "Kind",
    "Method",
    "Once",
    "Oracle",
    "Problem",
    "Start",
    "State",
    "StepRecord",
    "TransferResult",
    "WeightMatching",
    "check_fit",
    "explore",
    "place",
    "refuse_foreign",
    "transfer",
    "worth",
]
