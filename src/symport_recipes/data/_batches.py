"""Draw batches: one shuffled pass for training, or a fixed list for gradient matching."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from symport.errors import DataError
from symport_recipes.data._augment import augmented
from symport_recipes.data._dataset import Examples, normalise
from symport_recipes.data._images import LazyImages


def batches(
    examples: Examples | LazyImages,
    size: int,
    generator: Generator,
    *,
    augment: bool = False,
    dtype: torch.dtype = torch.float32,
    place: int = 0,
    among: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over all examples in random order.

    Args:
        examples: What to draw from, on any device; batches come on the same. Lazy images are
            decoded by threads while earlier batches are used.
        size: Examples in a batch; the last one holds what is left.
        generator: On the CPU; gives the order, then crops and flips.
        augment: Crop and flip the images (see `augmented`).
        dtype: Of the inputs of a batch.
        place: Which part of each batch is wanted, from 0; see `part_of`.
        among: How many processes share a batch, each with the same generator: together they see
            what one process sees.

    Yields:
        Normalised inputs `(batch, ...)` and labels `(batch,)`.

    Raises:
        DataError: `size` is below 1, or inputs to be augmented are not uint8 images.

    Example:
        >>> examples = Examples(torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64))
        >>> [len(labels) for _, labels in batches(examples, 2, torch.Generator())]
        [2, 2, 1]
    """
    _check_size(size)
    order = torch.randperm(len(examples), generator=generator).to(examples.labels.device)
    parts, draws = order.split(size), generator if augment else None
    in_memory = isinstance(examples, Examples)
    mine = [part_of(len(index), place, among) for index in parts]
    drawn = (
        _drawn(examples, parts, draws, mine) if in_memory else examples.stream(parts, draws, mine)
    )
    for index, part, inputs in zip(parts, mine, drawn, strict=True):
        inputs = normalise(inputs, examples.mean, examples.std, dtype)
        yield inputs, examples.labels.index_select(0, index[part])


def part_of(total: int, place: int, among: int) -> slice:
    """One of so many parts of a batch, their sizes at most one apart.

    If a batch has fewer examples than parts, each part still has one example, which other parts
    have too; `counted` gives how many of them count.

    Example:
        >>> [part_of(5, place, 2) for place in (0, 1)]
        [slice(0, 2, None), slice(2, 5, None)]
    """
    first, last = (total * k // among for k in (place, place + 1))
    return slice(first, last) if first < last else slice(0, 1)


def counted(total: int, place: int, among: int) -> int:
    """Number of examples that a part counts; over all parts, the size of the batch.

    Example:
        >>> [counted(1, place, 2) for place in (0, 1)]
        [0, 1]
    """
    return total * (place + 1) // among - total * place // among


def _drawn(
    examples: Examples,
    parts: Sequence[Tensor],
    generator: Generator | None,
    mine: Sequence[slice],
) -> Iterator[Tensor]:
    if generator is not None:
        check_images(examples)
    for index, part in zip(parts, mine, strict=True):
        if generator is None:
            yield examples.inputs.index_select(0, index[part])
        else:  # all of them, so that every process draws the same numbers
            yield augmented(examples.inputs.index_select(0, index), generator)[part]


def fixed_batches(
    inputs: Tensor, labels: Tensor, size: int, count: int, generator: Generator
) -> list[tuple[Tensor, Tensor]]:
    """Draw a list of full batches, for repeated use.

    No example occurs twice in a batch, or again before all others have occurred (except the fewer
    than `size` that are left at the end of a pass).

    Args:
        inputs: Shape `(n, ...)`, as the network takes them.
        labels: Shape `(n,)`.
        size: Examples in a batch, from 1 to n.
        count: Number of batches.
        generator: On the CPU; chooses the examples.

    Returns:
        `count` pairs of shapes `(size, ...)` and `(size,)`.

    Raises:
        DataError: Inputs and labels do not belong together, `size` or `count` is out of range.
    """
    _check_size(size)
    examples = Examples(inputs, labels)
    if size > len(examples) or count < 1:
        raise DataError(
            f"{count} batches of {size} are asked for, there are {len(examples)} examples; "
            f"take at least 1 batch of at most {len(examples)}"
        )
    drawn: list[Tensor] = []
    while len(drawn) < count:
        order = torch.randperm(len(examples), generator=generator).to(labels.device)
        drawn += [index for index in order.split(size) if len(index) == size]
    return [(inputs[index], labels[index]) for index in drawn[:count]]


def check_images(examples: Examples) -> None:
    """Raise DataError unless the inputs are images that can be cropped and flipped."""
    inputs = examples.inputs
    if inputs.ndim != 4 or inputs.dtype != torch.uint8:
        raise DataError(
            f"inputs are {inputs.dtype} of shape {tuple(inputs.shape)}; only uint8 images of "
            "shape (n, channels, height, width) can be augmented"
        )


def _check_size(size: int) -> None:
    if size < 1:
        raise DataError(f"a batch of {size} examples is asked for; it must be at least 1")
