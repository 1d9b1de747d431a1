import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from symport_recipes.data import crop_and_flip


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
