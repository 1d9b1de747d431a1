"""Random crops and flips of a whole batch of images at once.

Drawings and thumbnails (MNIST, CIFAR) are shifted by a few pixels, as in Chijiwa 2024. For
photographs (ImageNet, Cars, CUB) the paper gives no augmentation; here it is the usual one since
Szegedy et al. 2015: a box of random size and shape is cut out and scaled back.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

PADDING = 4
PHOTOGRAPH = 64  # pixels; from this height on, images are taken for photographs
LEAST_AREA = 0.08  # of the image, for a box (Szegedy et al. 2015)
LONGEST = 4 / 3  # ratio of its sides (the same)


def augmented(images: Tensor, generator: Generator) -> Tensor:
    """Crop and flip as images of this size are: see `crop_and_flip` and `resized_crop_and_flip`."""
    small = images.shape[2] < PHOTOGRAPH
    return (crop_and_flip if small else resized_crop_and_flip)(images, generator)


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


def resized_crop_and_flip(images: Tensor, generator: Generator) -> Tensor:
    """Cut a random box from each image, scale it back to the full size and mirror half of them.

    Args:
        images: Shape `(batch, channels, height, width)`, uint8.
        generator: On the CPU; draws what `draw_crops` says.

    Returns:
        New images of the same shape, uint8, interpolated bilinearly.
    """
    height, width = images.shape[2:]
    crops = draw_crops(len(images), generator)
    left, top, right, bottom = crop_boxes(crops, height, width).unbind(1)
    mirror = torch.where(crops[:, 4] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(left)
    # From the output's coordinates in [-1, 1] to the input's.
    across = torch.stack([mirror * (right - left) / width, zero, (left + right) / width - 1], 1)
    down = torch.stack([zero, (bottom - top) / height, (top + bottom) / height - 1], 1)
    theta = torch.stack([across, down], 1).float().to(images.device)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    found = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return found.round_().to(torch.uint8)


def draw_crops(n: int, generator: Generator) -> Tensor:
    """Draw boxes for `n` images of any size.

    Returns:
        Shape `(n, 5)`, float64: share of the image's area, uniform in [0.08, 1]; width over
        height, its logarithm uniform between those of 3/4 and 4/3; two places in [0, 1], from
        left to right and from top to bottom; and a number in [0, 1], mirrored if below 1/2.
    """
    drawn = torch.rand((n, 5), generator=generator, dtype=torch.float64)
    drawn[:, 0] = LEAST_AREA + (1 - LEAST_AREA) * drawn[:, 0]
    drawn[:, 1] = torch.exp((2 * drawn[:, 1] - 1) * math.log(LONGEST))
    return drawn


def crop_boxes(crops: Tensor, height: int, width: int) -> Tensor:
    """The boxes in images of one size; one that is too long is cut to the image.

    Args:
        crops: As `draw_crops` gives them, shape `(n, 5)`.
        height: In pixels.
        width: In pixels.

    Returns:
        Left, top, right and bottom edges, shape `(n, 4)`, in pixels, not rounded.

    Example:
        >>> crop_boxes(torch.tensor([[0.25, 1.0, 0.0, 0.5, 1.0]]), 8, 8)
        tensor([[0., 2., 4., 6.]])
    """
    area, ratio, across, down, _ = crops.unbind(1)
    area = area * (height * width)
    wide = (area * ratio).sqrt().clamp(max=width)
    high = (area / ratio).sqrt().clamp(max=height)
    left, top = across * (width - wide), down * (height - high)
    return torch.stack([left, top, left + wide, top + high], 1)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel `(rows[b, y], columns[b, x])` of each image b, shape `(batch, channels, y, x)`."""
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    channels_last = images.permute(0, 2, 3, 1)
    found = channels_last[batch, rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2).contiguous()
