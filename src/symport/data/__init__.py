"""Labelled examples, the batches drawn from them, and the folds of a cross-validation."""

from symport.data._folds import Fold, stratified_folds
from symport.data._labelled import Labelled, ShuffledBatches

__all__ = ["Fold", "Labelled", "ShuffledBatches", "stratified_folds"]
