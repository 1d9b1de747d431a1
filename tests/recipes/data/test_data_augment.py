from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from symport_recipes.data import augmented, crop_and_flip, resized_crop_and_flip
from symport_recipes.data._augment import crop_boxes, draw_crops


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def images(n: int = 3, height: int = 5, width: int = 6) -> Tensor:
    return torch.randint(1, 256, (n, 3, height, width), generator=seeded(7)).to(torch.uint8)


def every_outcome(image: Tensor, padding: int) -> dict[tuple[int, int, bool], Tensor]:
    """Each crop of the padded image, and its mirror image, one by one."""
    _, height, width = image.shape
    padded = pad(image, (padding,) * 4)
    outcomes: dict[tuple[int, int, bool], Tensor] = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            outcomes[top, left, False] = crop
            outcomes[top, left, True] = crop.flip(2)
    return outcomes


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_each_image_becomes_one_of_its_crops(padding: int):
    batch = images()
    found = crop_and_flip(batch, seeded(), padding=padding)
    assert found.shape == batch.shape
    assert found.dtype == torch.uint8
    for image, result in zip(batch, found, strict=True):
        crops = every_outcome(image, padding).values()
        assert any(torch.equal(result, crop) for crop in crops)


def test_all_crops_and_flips_are_equally_likely():
    image = images(1)
    outcomes = every_outcome(image[0], 1)
    found = crop_and_flip(image.expand(3600, -1, -1, -1), seeded(), padding=1)
    counts = [int((found == crop).flatten(1).all(1).sum()) for crop in outcomes.values()]
    assert sum(counts) == 3600
    # 18 outcomes, 200 each: a binomial whose deviation is 13.7.
    assert all(abs(count - 200) < 60 for count in counts)


def test_images_of_a_batch_are_moved_independently():
    same = images(1).expand(64, -1, -1, -1)
    found = crop_and_flip(same, seeded())
    assert len({tuple(image.flatten().tolist()) for image in found}) > 30


def test_one_seed_gives_one_batch_and_the_images_stay():
    batch = images()
    before = batch.clone()
    first, again, other = (crop_and_flip(batch, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch, before)


def test_boxes_have_the_published_areas_and_shapes():
    crops = draw_crops(4000, seeded())
    left, top, right, bottom = crop_boxes(crops, 400, 400).unbind(1)
    wide, high = right - left, bottom - top
    assert bool(((left >= 0) & (top >= 0) & (right <= 400 + 1e-9) & (bottom <= 400 + 1e-9)).all())
    # Szegedy et al. 2015: 8% to 100% of the area, sides in 3/4 to 4/3; uncut boxes keep both.
    whole = (wide < 400) & (high < 400)
    area = wide * high / 400**2
    assert torch.allclose(area[whole], crops[whole, 0])
    assert 0.08 <= float(crops[:, 0].min()) < 0.09
    assert abs(float(crops[:, 0].mean()) - 0.54) < 0.02
    shape = (wide / high)[whole]
    assert 0.75 <= float(shape.min()) < float(shape.max()) <= 4 / 3 + 1e-9
    assert abs(float(shape.log().mean())) < 0.02
    assert abs(float((crops[:, 4] < 0.5).double().mean()) - 0.5) < 0.03


def test_a_random_box_is_scaled_back_to_the_whole():
    # Red tells the column, green the row; bilinear interpolation keeps both exact.
    rows, columns = torch.meshgrid(torch.arange(80), torch.arange(100), indexing="ij")
    image = torch.stack([2 * columns, 3 * rows]).to(torch.uint8)
    found = resized_crop_and_flip(image.expand(6, -1, -1, -1), seeded(3))
    crops = draw_crops(6, seeded(3))
    assert found.shape == (6, 2, 80, 100)
    assert found.dtype == torch.uint8
    for result, crop, box in zip(found, crops, crop_boxes(crops, 80, 100), strict=True):
        left, top, right, bottom = box.tolist()
        across = left + (right - left) * (torch.arange(100) + 0.5) / 100 - 0.5
        down = top + (bottom - top) * (torch.arange(80) + 0.5) / 80 - 0.5
        across = across.flip(0) if crop[4] < 0.5 else across
        assert float((result[0] - 2 * across.clamp(0, 99)).abs().max()) < 0.51
        assert float((result[1] - 3 * down.clamp(0, 79)[:, None]).abs().max()) < 0.51


@pytest.mark.parametrize(("side", "way"), [(32, crop_and_flip), (64, resized_crop_and_flip)])
def test_photographs_are_told_by_their_size(side: int, way: Callable[[Tensor, Generator], Tensor]):
    batch = images(2, side, side)
    assert torch.equal(augmented(batch, seeded()), way(batch, seeded()))
