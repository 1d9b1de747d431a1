"""One protocol of selection: candidates, cross-validation, early stopping, and what was found."""

from symport.selection._candidates import CandidateName, Plan
from symport.selection._classification import check_examples, classification_problem
from symport.selection._cross_validation import (
    CrossValidation,
    Kind,
    ScoredCandidate,
    cross_validate,
)
from symport.selection._early_stopping import (
    PATIENCE,
    DirectTraining,
    TrainingRules,
    Trial,
    evaluation_steps,
    fewest_steps,
    validation_curve,
)
from symport.selection._folder import select_into
from symport.selection._intervals import Interval
from symport.selection._parameterization import (
    AdapterFactors,
    MasterWeights,
    Parameterization,
    WholeWeights,
)
from symport.selection._problem import Evaluated, Feed, SelectionProblem, Task, TaskBatches, Terms
from symport.selection._record import Row, header, numbers_of, rows_of
from symport.selection._select import Outcome, folds_of, select
from symport.selection._summary import share_of_lift, verdict

__all__ = [
    "PATIENCE",
    "AdapterFactors",
    "CandidateName",
    "CrossValidation",
    "DirectTraining",
    "Evaluated",
    "Feed",
    "Interval",
    "Kind",
    "MasterWeights",
    "Outcome",
    "Parameterization",
    "Plan",
    "Row",
    "ScoredCandidate",
    "SelectionProblem",
    "Task",
    "TaskBatches",
    "Terms",
    "TrainingRules",
    "Trial",
    "WholeWeights",
    "check_examples",
    "classification_problem",
    "cross_validate",
    "evaluation_steps",
    "fewest_steps",
    "folds_of",
    "header",
    "numbers_of",
    "rows_of",
    "select",
    "select_into",
    "share_of_lift",
    "validation_curve",
    "verdict",
]
