"""Decode one photograph, cut a box from it and scale that to a square."""

import io

import numpy as np
import torch
from torch import Tensor

from symport.errors import DataError
from symport_recipes.data._augment import crop_boxes

CENTRE = 7 / 8  # of the shorter side is kept for evaluation: 224 of 256 (He et al. 2016)


def decode(content: bytes, size: int, crop: Tensor | None = None) -> Tensor:
    """Decode a JPEG or PNG image into a square.

    It is scaled with antialiasing. JPEG files are decoded at a lower resolution where that
    suffices.

    Args:
        content: The file, of any height and width, grey or colour.
        size: Height and width of the result, in pixels.
        crop: A row of `draw_crops`; None for 7/8 of the shorter side at the centre.

    Returns:
        Red, green and blue, shape `(3, size, size)`, uint8.

    Raises:
        DataError: Pillow is not installed.
        ValueError: The file is damaged or of another format.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("images are decoded by Pillow: pip install 'symport[recipes]'") from error
    try:
        # No other of Pillow's many formats, which would only be more to attack.
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            width, height = image.size
            box = _centre(width, height) if crop is None else crop_boxes(crop[None], height, width)
            scale = size / float((box[0, 2:] - box[0, :2]).min())
            drafted = image.draft("RGB", (round(width * scale), round(height * scale)))
            # The exact size of the picture, which need not be whole; PNG stays as it is.
            now = drafted[1][2:] if drafted else (width, height)
            left, top, right, bottom = (box[0] * _ratio(now, (width, height))).tolist()
            edges = left, top, min(right, image.width), min(bottom, image.height)
            square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, edges)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)
    mirrored = crop is not None and bool(crop[4] < 0.5)
    return (pixels.flip(2) if mirrored else pixels).contiguous()


def _centre(width: int, height: int) -> Tensor:
    """Left, top, right and bottom edge, shape `(1, 4)`."""
    side = CENTRE * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return torch.tensor([[left, top, left + side, top + side]])


def _ratio(now: tuple[float, float], before: tuple[int, int]) -> Tensor:
    """Of sizes, for each of the four edges."""
    return (torch.tensor(now, dtype=torch.float64) / torch.tensor(before)).repeat(2)
