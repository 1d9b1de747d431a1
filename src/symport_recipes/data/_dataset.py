"""Examples in memory: inputs with their labels, and the two halves of a data set.

Images stay uint8, a quarter of the memory of floats, and are normalised batch by batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from symport.errors import DataError

# Of the pixels of ImageNet's training set; the paper normalises CIFAR by them as well.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with their labels.

    Attributes:
        inputs: uint8 images of shape `(n, channels, height, width)`, or floats of shape
            `(n, ...)`.
        labels: Class of each input, shape `(n,)`, int64, at least 0.
        mean: Subtracted from each channel once pixels are scaled to [0, 1]; empty for none.
        std: Divides each channel after that; empty for none.

    Raises:
        DataError: There is no example, lengths or dtypes differ from the above, a label is
            negative, or `mean` and `std` do not have one positive entry for each channel.
    """

    inputs: Tensor
    labels: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_labels(self.labels)
        _check_inputs(self.inputs, len(self.labels))
        _check_moments(self.inputs, self.mean, self.std)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Examples":
        """The examples at these places, in this order; `index` has shape `(k,)`, int64.

        Raises:
            DataError: The index is empty or points outside.
        """
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise DataError(f"an index points outside the {len(self)} examples")
        return replace(self, inputs=self.inputs[index], labels=self.labels[index])

    def floats(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """All inputs as a network takes them: floats, scaled and normalised."""
        return normalise(self.inputs, self.mean, self.std, dtype)

    def normalised(self, dtype: torch.dtype = torch.float32) -> "Examples":
        """The same examples with their inputs as `floats` gives them."""
        return Examples(self.floats(dtype), self.labels)

    def to(self, device: torch.device) -> "Examples":
        """The same examples on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set and a test set.

    Attributes:
        name: What it is called in reports.
        train_inputs: As `Examples.inputs`.
        train_labels: As `Examples.labels`, below `classes`.
        test_inputs: As `Examples.inputs`, of the shape and dtype of the training inputs.
        test_labels: As `Examples.labels`, below `classes`.
        classes: Number of classes.
        mean: As `Examples.mean`.
        std: As `Examples.std`.
        note: What is missing from the official data set; empty if it is complete.

    Raises:
        DataError: A half breaks what `Examples` asks, a label is not below `classes`, or the
            inputs of the halves differ in shape or dtype.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for half, examples in (("training", self.train), ("test", self.test)):
            highest = int(examples.labels.max())
            if highest >= self.classes:
                raise DataError(
                    f"{self.name}: a {half} label is {highest}; there are {self.classes} classes"
                )
        ours, theirs = self.train_inputs, self.test_inputs
        if ours.shape[1:] != theirs.shape[1:] or ours.dtype != theirs.dtype:
            raise DataError(
                f"{self.name}: a training input is {ours.dtype} of shape {tuple(ours.shape[1:])}, "
                f"a test input is {theirs.dtype} of shape {tuple(theirs.shape[1:])}"
            )

    @property
    def train(self) -> Examples:
        """The training half."""
        return Examples(self.train_inputs, self.train_labels, self.mean, self.std)

    @property
    def test(self) -> Examples:
        """The test half."""
        return Examples(self.test_inputs, self.test_labels, self.mean, self.std)


def normalise(
    inputs: Tensor,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Scale uint8 to [0, 1], then subtract `mean` and divide by `std` channel by channel.

    Args:
        inputs: Shape `(batch, channels, ...)`; floats are taken to be scaled already.
        mean: One entry for each channel, or empty for no normalisation.
        std: One entry for each channel, or empty.
        dtype: Of the result.

    Returns:
        Floats of the same shape; the same tensor object if there is nothing to do.

    Example:
        >>> normalise(torch.tensor([[0, 51, 255]], dtype=torch.uint8))
        tensor([[0.0000, 0.2000, 1.0000]])
    """
    scaled = inputs.to(dtype)
    if inputs.dtype == torch.uint8:
        scaled = scaled.div_(255)  # in place: `to` has just made it
    if not mean:
        return scaled
    shape = (-1, *(1,) * (inputs.ndim - 2))
    center, spread = (torch.tensor(x, dtype=dtype, device=inputs.device) for x in (mean, std))
    return (scaled - center.reshape(shape)).div_(spread.reshape(shape))


def check_labels(labels: Tensor) -> None:
    """Raise DataError unless there are labels, int64, in one row, none negative."""
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; "
            "expected torch.int64 of shape (n,)"
        )
    if len(labels) == 0:
        raise DataError("there is no example")
    if int(labels.min()) < 0:
        raise DataError(f"a label is {int(labels.min())}; labels count from 0")


def _check_inputs(inputs: Tensor, count: int) -> None:
    if inputs.ndim < 2 or len(inputs) != count:
        raise DataError(
            f"inputs have shape {tuple(inputs.shape)} for {count} labels; expected ({count}, ...)"
        )
    if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
        raise DataError(f"inputs are {inputs.dtype}; expected torch.uint8 or floats")


def _check_moments(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != len(std) or any(value <= 0 for value in std):
        raise DataError(f"mean {tuple(mean)} and std {tuple(std)}: one positive std for each mean")
    if mean and len(mean) != inputs.shape[1]:
        raise DataError(f"mean has {len(mean)} entries, the inputs have {inputs.shape[1]} channels")
