"""Random crops and flips of a whole batch of images at once (Chijiwa 2024, settings for CIFAR)."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

PADDING = 4


def crop_and_flip(images: Tensor, generator: Generator, *, padding: int = PADDING) -> Tensor:
    """Shift each image by up to `padding` pixels along both axes and mirror half of them.

    Each image is padded with black and cut back to its size at a random place, then mirrored
    left to right with probability 1/2.

    Args:
        images: Shape `(batch, channels, height, width)`, before normalisation (0 is black).
        generator: On the CPU, whatever the device of the images: the same draws everywhere.
        padding: In pixels.

    Returns:
        New images of the same shape and dtype.
    """
    batch, _, height, width = images.shape
    shifts = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    flipped = torch.randint(0, 2, (batch,), generator=generator).bool()
    rows = shifts[0, :, None] + torch.arange(height)
    columns = shifts[1, :, None] + torch.arange(width)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    padded = pad(images, (padding,) * 4)
    return _gather(padded, rows.to(images.device), columns.to(images.device))


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel `(rows[b, y], columns[b, x])` of each image b, shape `(batch, channels, y, x)`."""
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    channels_last = images.permute(0, 2, 3, 1)
    found = channels_last[batch, rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2).contiguous()
