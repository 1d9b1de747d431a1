"""Divide examples by their labels: proportional parts, balanced few labels, some classes only.

Each function draws from the generator in an order that its sizes do not change, so the first 20
of 100 labels are the 20 that the same seed gives.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Generator, Tensor

from symport.errors import DataError, SettingsError
from symport_recipes.data._dataset import Dataset


def split(
    labels: Tensor, parts: Sequence[int] | Sequence[float], generator: Generator
) -> list[Tensor]:
    """Divide examples into parts with the same proportion of each class.

    Args:
        labels: Shape `(n,)`, int64.
        parts: Sizes of the parts as numbers of examples, or as fractions of all: `(0.9, 0.1)`.
            The rest is in no part.
        generator: Chooses which examples go where.

    Returns:
        Places of each part in increasing order, int64, no place twice. The number of examples of
        each class in the first part is its exact share, rounded up or down.

    Raises:
        DataError: A part is empty, or the parts need more examples than there are.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> [len(part) for part in split(labels, (0.5, 0.5), torch.Generator().manual_seed(0))]
        [3, 3]
    """
    sizes = _sizes(parts, len(labels))
    ranked = _shuffled(labels, generator)
    used = torch.zeros(len(ranked), dtype=torch.int64)
    totals = torch.tensor([len(places) for places in ranked])
    result: list[Tensor] = []
    for size in sizes:
        shares = _shares(totals - used, size, generator)
        chosen = [
            places[start : start + share]
            for places, start, share in zip(ranked, used.tolist(), shares.tolist(), strict=True)
        ]
        result.append(torch.cat(chosen).sort().values)
        used += shares
    return result


def few_labels(labels: Tensor, n: int, generator: Generator) -> Tensor:
    """Choose `n` examples in total, as evenly over the classes as possible.

    Args:
        labels: Shape `(count,)`, int64.
        n: From 1 to `count`. If it is not a multiple of the number of classes, the classes that
            get one more are random.
        generator: Chooses the examples.

    Returns:
        Places, shape `(n,)`, int64. A larger `n` with the same seed begins with the same places.

    Raises:
        DataError: `n` is out of its range.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> chosen = few_labels(labels, 4, torch.Generator().manual_seed(0))
        >>> labels[chosen].bincount()
        tensor([2, 2])
    """
    if not 1 <= n <= len(labels):
        raise DataError(f"{n} labels are asked for, there are {len(labels)}")
    ranked = _shuffled(labels, generator)
    turn = torch.randperm(len(ranked), generator=generator)
    # Round r takes the r-th example of every class that still has one, in the order of `turn`.
    rounds = torch.cat([torch.arange(len(places)) for places in ranked])
    turns = torch.cat([turn[c].expand(len(places)) for c, places in enumerate(ranked)])
    order = (rounds * len(ranked) + turns).argsort()
    return torch.cat(ranked)[order[:n]]


def noisy_labels(labels: Tensor, share: float, classes: int, generator: Generator) -> Tensor:
    """Give a share of the examples a wrong label, each other class with the same probability.

    Args:
        labels: Shape `(n,)`, int64, from 0 to `classes - 1`.
        share: In [0, 1]; exactly `round(share * n)` labels become wrong.
        classes: Number of classes, at least 2.
        generator: Chooses the examples and their labels. A larger share with the same seed
            changes the same examples in the same way, and more.

    Returns:
        New labels, shape `(n,)`.

    Raises:
        SettingsError: `share` or `classes` is out of its range.
        DataError: A label is.

    Example:
        >>> noisy_labels(torch.tensor([0, 1, 1]), 1.0, 2, torch.Generator())
        tensor([1, 0, 0])
    """
    if not 0 <= share <= 1:
        raise SettingsError(f"a share of {share} wrong labels is asked for; it must be in [0, 1]")
    if classes < 2:
        raise SettingsError(f"with {classes} classes no label can be wrong; at least 2 are needed")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"a label is not a number from 0 to {classes - 1}")
    order = torch.randperm(len(labels), generator=generator)
    shifts = torch.randint(1, classes, (len(labels),), generator=generator)
    wrong = order[: round(share * len(labels))]
    result = labels.clone()
    result[wrong] = (labels[wrong] + shifts[wrong]) % classes
    return result


def only_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """Keep some classes, renumbered 0 to k-1 in the order given.

    Raises:
        DataError: No class is named, or one is named twice, is not one of the data set, or has
            no example in one of the halves.
    """
    known = set(range(dataset.classes))
    if not classes or len(set(classes)) != len(classes) or not set(classes) <= known:
        raise DataError(
            f"{dataset.name}: classes {list(classes)} must be one or more different numbers "
            f"from 0 to {dataset.classes - 1}"
        )
    number = torch.full((dataset.classes,), -1)
    number[list(classes)] = torch.arange(len(classes))
    for half, labels in (("training", dataset.train_labels), ("test", dataset.test_labels)):
        if absent := sorted(set(classes) - set(labels.unique().tolist())):
            raise DataError(f"{dataset.name}: classes {absent} have no {half} example")
    train, test = number[dataset.train_labels], number[dataset.test_labels]
    return replace(
        dataset,
        train_inputs=dataset.train_inputs[train >= 0],
        train_labels=train[train >= 0],
        test_inputs=dataset.test_inputs[test >= 0],
        test_labels=test[test >= 0],
        classes=len(classes),
    )


def _shuffled(labels: Tensor, generator: Generator) -> list[Tensor]:
    """The places of each class that occurs, shuffled."""
    order = torch.randperm(len(labels), generator=generator)
    return [order[labels[order] == c] for c in labels.unique()]


def _sizes(parts: Sequence[int] | Sequence[float], n: int) -> list[int]:
    if all(isinstance(part, int) for part in parts):
        sizes = [int(part) for part in parts]
    else:
        # Rounding the ends, not the sizes: parts that sum to 1 leave nothing over.
        ends = [round(n * sum(parts[:k])) for k in range(len(parts) + 1)]
        sizes = [end - start for start, end in pairwise(ends)]
    if not sizes or min(sizes) < 1 or sum(sizes) > n:
        raise DataError(
            f"parts {tuple(parts)} of {n} examples have sizes {sizes}; "
            f"each must be at least 1, all together at most {n}"
        )
    return sizes


def _shares(counts: Tensor, size: int, generator: Generator) -> Tensor:
    """Share `size` over classes in proportion to `counts`, by the largest remainders."""
    shares = counts * size // counts.sum()
    remainders = counts * size - shares * counts.sum()
    # The draw decides between equal remainders only.
    turn = torch.randperm(len(counts), generator=generator)
    order = (remainders * len(counts) + turn).argsort(descending=True)
    shares[order[: size - int(shares.sum())]] += 1
    return shares
