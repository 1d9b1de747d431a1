"""Split a labelled set into folds for cross-validation, each class spread evenly."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from symport.errors import DataError, SettingsError


@dataclass(frozen=True, eq=False)
class Fold:
    """One way to split a labelled set.

    Attributes:
        train: Indices of the larger part, ascending, shape `(k,)`, int64.
        held_out: Indices of the rest, ascending, shape `(samples - k,)`, int64.
    """

    train: Tensor
    held_out: Tensor


def stratified_folds(labels: Tensor, count: int, generator: Generator) -> list[Fold]:
    """Split a labelled set for cross-validation, each class spread evenly over the folds.

    Args:
        labels: Class of each sample, shape `(samples,)`.
        count: Number of folds, from 2 to the number of samples.
        generator: Shuffles the samples of each class.

    Returns:
        Folds whose held-out parts are disjoint, cover the set, and differ in size, and in the
        number of samples of a class, by at most one.

    Raises:
        DataError: There are fewer samples than folds, or `labels` has another shape.
        SettingsError: `count` is below 2.

    Example:
        >>> folds = stratified_folds(torch.tensor([0, 0, 1, 1]), 2, torch.Generator())
        >>> [sorted(torch.tensor([0, 0, 1, 1])[fold.held_out].tolist()) for fold in folds]
        [[0, 1], [0, 1]]
    """
    if count < 2:
        raise SettingsError(f"the number of folds must be at least 2, not {count}")
    if labels.ndim != 1 or len(labels) < count:
        raise DataError(f"labels of shape {tuple(labels.shape)} cannot be split into {count} folds")
    labels = labels.cpu()
    shuffled = torch.randperm(len(labels), generator=generator)
    dealt = shuffled[labels[shuffled].argsort(stable=True)]  # class after class, like cards
    fold_of = torch.empty(len(labels), dtype=torch.int64)
    fold_of[dealt] = torch.arange(len(labels)) % count
    return [
        Fold((fold_of != k).nonzero().squeeze(1), (fold_of == k).nonzero().squeeze(1))
        for k in range(count)
    ]
