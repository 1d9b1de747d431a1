"""Candidates, cross-validation and early stopping: what a few labels say is best."""

from symport.selection._compare import (
    Case,
    CompareSettings,
    Comparison,
    Entry,
    accuracy_verdict,
    check_examples,
    compare,
)
from symport.selection._compete import Name, Outcome, Plan, compete, folds_of
from symport.selection._cross_validation import (
    LENGTHS,
    CrossValidation,
    Kind,
    Ranked,
    cross_validate,
    fold_name,
)
from symport.selection._early_stopping import PATIENCE, Trial, curve, fewest_steps, marks
from symport.selection._interval import Interval, interval_of, mean_interval, resamples, too_few
from symport.selection._parameterization import Factors, Masters, Space, Whole
from symport.selection._problem import Contest, Fed, Feed, Judged, Task
from symport.selection._summary import share_of_lift, title, verdict

__all__ = [
    "LENGTHS",
    "PATIENCE",
    "Case",
    "CompareSettings",
    "Comparison",
    "Contest",
    "CrossValidation",
    "Entry",
    "Factors",
    "Fed",
    "Feed",
    "Interval",
    "Judged",
    "Kind",
    "Masters",
    "Name",
    "Outcome",
    "Plan",
    "Ranked",
    "Space",
    "Task",
    "Trial",
    "Whole",
    "accuracy_verdict",
    "check_examples",
    "compare",
    "compete",
    "cross_validate",
    "curve",
    "fewest_steps",
    "fold_name",
    "folds_of",
    "interval_of",
    "marks",
    "mean_interval",
    "resamples",
    "share_of_lift",
    "title",
    "too_few",
    "verdict",
]
