"""Labelled examples in memory, and seeded batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from symport.errors import DataError, SettingsError
from symport.settings import MAX_SEED


@dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs with their labels.

    Attributes:
        inputs: Shape `(n, ...)`.
        labels: Shape `(n, ...)`.

    Raises:
        DataError: There are no examples, or the numbers of inputs and labels differ.

    Example:
        >>> data = Labelled(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 1, 1]))
        >>> len(data), data.take(torch.tensor([2, 0])).labels
        (3, tensor([1, 0]))
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.inputs.ndim == 0 or len(self.inputs) == 0:
            raise DataError("there are no examples")
        if self.labels.ndim == 0 or len(self.inputs) != len(self.labels):
            raise DataError(
                f"inputs of shape {tuple(self.inputs.shape)} need one label each; "
                f"labels have shape {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Labelled":
        """The examples at some indices, in that order.

        Args:
            index: Shape `(k,)`, int64.
        """
        return replace(self, inputs=self.inputs[index], labels=self.labels[index])

    def split(self, share: float, seed: int) -> tuple["Labelled", "Labelled"]:
        """Split at random into two parts.

        Args:
            share: Share of the examples in the second part, between 0 and 1.
            seed: Of the random choice.

        Raises:
            SettingsError: `share` leaves one of the parts empty.
        """
        count = round(share * len(self)) if 0 < share < 1 else 0
        if not 0 < count < len(self):
            raise SettingsError(
                f"a share of {share} of {len(self)} examples leaves a part empty; "
                "choose one between 0 and 1, or provide more examples"
            )
        order = torch.randperm(len(self), generator=Generator().manual_seed(seed))
        return self.take(order[count:].sort().values), self.take(order[:count].sort().values)

    def parts(self, count: int) -> list["Labelled"]:
        """Split in order into at most `count` parts, none empty, their sizes at most one apart."""
        indices = torch.arange(len(self)).tensor_split(min(count, len(self)))
        return [self.take(index) for index in indices]


class ShuffledBatches(Sequence[tuple[Tensor, Tensor]]):
    """Batches of the examples, shuffled anew for each epoch.

    Batch t is the same every time it is read, so runs can be repeated and resumed.

    Args:
        data: The examples.
        size: Number of examples in a batch; all of them if there are fewer.
        count: Number of batches.
        seed: Of the shuffling, from 0 to 2³² − 1.

    Raises:
        SettingsError: `size` or `count` is below 1, or `seed` out of its range.

    Example:
        >>> data = Labelled(torch.arange(5), torch.arange(5))
        >>> [len(labels) for _, labels in ShuffledBatches(data, size=2, count=4, seed=0)]
        [2, 2, 2, 2]
    """

    def __init__(self, data: Labelled, *, size: int, count: int, seed: int) -> None:
        if size < 1 or count < 1:
            raise SettingsError(f"size={size} and count={count} must both be at least 1")
        if not 0 <= seed <= MAX_SEED:
            raise SettingsError(f"seed must be between 0 and {MAX_SEED}, not {seed}")
        self._data = data
        self._size = min(size, len(data))
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices: batches are taken one by one
        if not 0 <= number < self._count:
            raise IndexError(number)
        per_epoch = len(self._data) // self._size
        order = self._order(number // per_epoch)
        begin = (number % per_epoch) * self._size
        batch = self._data.take(order[begin : begin + self._size])
        return batch.inputs, batch.labels

    def _order(self, epoch: int) -> Tensor:
        state = np.random.SeedSequence((self._seed, epoch)).generate_state(1)  # 32 bits of both
        generator = Generator().manual_seed(int(state[0]))
        return torch.randperm(len(self._data), generator=generator)
