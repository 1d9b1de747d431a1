"""Models traced into graphs of tensor operations, and what tracing and proofs need of a model."""

from symport.symmetry.graph._model_copy import evaluation
from symport.symmetry.graph._random_weights import (
    SPREAD,
    double_by_default,
    in_double,
    jittered,
    randomised,
    shaken,
    varied,
)
from symport.symmetry.graph._refused import check_arguments, check_call
from symport.symmetry.graph._state_dict import named_tensors, saved
from symport.symmetry.graph._storage import shared, tie_shared
from symport.symmetry.graph._trace import (
    Example,
    Graph,
    Operation,
    Ref,
    Shape,
    Source,
    alive,
    trace,
)

__all__ = [
    "SPREAD",
    "Example",
    "Graph",
    "Operation",
    "Ref",
    "Shape",
    "Source",
    "alive",
    "check_arguments",
    "check_call",
    "double_by_default",
    "evaluation",
    "in_double",
    "jittered",
    "named_tensors",
    "randomised",
    "saved",
    "shaken",
    "shared",
    "tie_shared",
    "trace",
    "varied",
]
