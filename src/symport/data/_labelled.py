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
        DataError: There is no example, or not one label for each input.
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
        """The examples at these places, in this order."""
        return replace(self, inputs=self.inputs[index], labels=self.labels[index])

    def split(self, share: float, seed: int) -> tuple["Labelled", "Labelled"]:
        """Two parts, the second with `share` of the examples, drawn by `seed`.

        Raises:
            SettingsError: `share` leaves one of the parts empty.
        """
        count = round(share * len(self)) if 0 < share < 1 else 0
        if not 0 < count < len(self):
            raise SettingsError(
                f"a share of {share} of {len(self)} examples leaves a part empty; "
                "choose one between 0 and 1, or bring more examples"
            )
        order = torch.randperm(len(self), generator=Generator().manual_seed(seed))
        return self.take(order[count:].sort().values), self.take(order[:count].sort().values)

    def parts(self, count: int) -> list["Labelled"]:
        """At most `count` parts, none empty, their sizes at most one apart."""
        places = torch.arange(len(self)).tensor_split(min(count, len(self)))
        return [self.take(index) for index in places]


class ShuffledBatches(Sequence[tuple[Tensor, Tensor]]):
    """Batches that go through the examples in a new order on each pass.

    Batch t is the same whenever it is asked for, so runs can be repeated and resumed.

    Args:
        data: What to draw from.
        size: Examples in a batch; all of them if there are fewer.
        count: Number of batches.
        seed: Of the orders, from 0 to 2³² − 1.

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

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        if not 0 <= number < self._count:
            raise IndexError(number)
        per_pass = len(self._data) // self._size
        order = self._order(number // per_pass)
        begin = (number % per_pass) * self._size
        batch = self._data.take(order[begin : begin + self._size])
        return batch.inputs, batch.labels

    def _order(self, turn: int) -> Tensor:
        state = np.random.SeedSequence((self._seed, turn)).generate_state(1)  # 32 bits of both
        generator = Generator().manual_seed(int(state[0]))
        return torch.randperm(len(self._data), generator=generator)
