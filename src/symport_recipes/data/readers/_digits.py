"""The handwritten digits that come with scikit-learn, which need no download."""

from typing import Any, cast

import torch

from symport.errors import DataError
from symport_recipes.data._dataset import Dataset
from symport_recipes.data._splits import split

TRAIN, TEST = 1200, 597
LARGEST = 16  # pixels are 0 to 16


def digits(seed: int = 0) -> Dataset:
    """1797 digits of 8 by 8 pixels (UCI optical recognition of handwritten digits, test part).

    Args:
        seed: Chooses the 597 test examples, with every class in proportion.

    Returns:
        Flattened inputs of shape `(n, 64)`, float32 in [0, 1]; 1200 of them to train on.

    Raises:
        DataError: scikit-learn is not installed.

    Example:
        >>> digits().train_inputs.shape
        torch.Size([1200, 64])
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits come with scikit-learn: pip install 'symport[recipes]'") from error
    bunch = cast("Any", load_digits())
    inputs = torch.tensor(bunch.data, dtype=torch.float32) / LARGEST
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    train, test = split(labels, (TRAIN, TEST), torch.Generator().manual_seed(seed))
    return Dataset("digits", inputs[train], labels[train], inputs[test], labels[test], classes=10)
