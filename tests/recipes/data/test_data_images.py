from pathlib import Path

import numpy as np
import pytest
import torch
from tinyfiles import image_bytes, plain_image, write_images
from torch import Generator, Tensor

from symport.errors import DataError, FileError
from symport_recipes.data import LazyImages, batches
from symport_recipes.data import _images as images
from symport_recipes.data._augment import crop_boxes, draw_crops
from symport_recipes.data._decode import decode
from symport_recipes.data._encoded import whole_files


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def ramp(width: int, height: int, step: int = 1) -> np.ndarray:
    """Red tells the column, green the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = step * np.arange(width)
    pixels[..., 1] = step * np.arange(height)[:, None]
    return pixels


def lazy(folder: Path, count: int = 6, size: int = 4) -> LazyImages:
    """Plain images of brightness 0, 10, 20, ..., labelled 0, 1, 0, 1, ..."""
    names = [f"a{k:02}" for k in range(count)]
    write_images(folder, **{name: 10 * k for k, name in enumerate(names)})
    files = whole_files(folder, [f"{name}.png" for name in names])
    return LazyImages(files, torch.arange(count) % 2, size)


def brightness(inputs: Tensor) -> list[int]:
    return inputs[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("kind", "error"), [("PNG", 1), ("JPEG", 4)])
def test_the_centre_square_keeps_seven_eighths_of_the_shorter_side(kind: str, error: int):
    found = decode(image_bytes(ramp(128, 64), kind), 56)
    # 56 of 64 rows from the fifth on; as many columns in the middle of 128.
    expected = torch.from_numpy(ramp(128, 64)[4:60, 36:92]).permute(2, 0, 1)
    assert found.shape == (3, 56, 56)
    assert int((found[:2].int() - expected[:2].int()).abs().max()) <= error


def test_scaling_down_averages_what_it_leaves_out():
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 200
    found = decode(image_bytes(stripes), 8).int()
    assert int((found - 100).abs().max()) <= 3


def test_a_jpeg_read_at_low_resolution_shows_the_same():
    found = decode(image_bytes(ramp(250, 200), "JPEG"), 20).float()
    # Output column k covers 8.75 columns of the input; the square begins at (250 - 175) / 2.
    centres = 37.5 + 8.75 * (torch.arange(20) + 0.5) - 0.5
    assert float((found[0] - centres).abs().max()) < 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_drawn_box_is_cut_scaled_and_mirrored(seed: int, kind: str):
    crop = draw_crops(1, seeded(seed))[0]
    found = decode(image_bytes(ramp(120, 80, step=2), kind), 16, crop).double()
    left, top, right, bottom = crop_boxes(crop[None], 80, 120)[0].tolist()
    places = (torch.arange(16) + 0.5) / 16
    columns = 2 * (left + (right - left) * places - 0.5)
    rows = 2 * (top + (bottom - top) * places - 0.5)
    columns = columns.flip(0) if crop[4] < 0.5 else columns
    inner = slice(2, -2)  # at the rim there is less to average
    assert float((found[0, inner, inner] - columns[inner]).abs().max()) < 6
    assert float((found[1, inner, inner] - rows[inner, None]).abs().max()) < 6


def test_grey_images_get_three_equal_channels():
    found = decode(image_bytes(np.arange(64, dtype=np.uint8).reshape(8, 8)), 7)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_images_are_taken_in_the_order_asked_for(tmp_path: Path):
    taken = lazy(tmp_path).take(torch.tensor([4, 1, 4]))
    assert taken.inputs.shape == (3, 3, 4, 4)
    assert brightness(taken.inputs) == [40, 10, 40]
    assert taken.labels.tolist() == [0, 1, 0]
    part = lazy(tmp_path).part(torch.tensor([5, 2]))
    assert brightness(part.take(torch.tensor([1, 0])).inputs) == [20, 50]


def test_lazy_batches_are_those_of_memory(tmp_path: Path):
    pictures = lazy(tmp_path, count=20)
    ours, theirs = (batches(x, 3, seeded(1)) for x in (pictures, pictures.load()))
    for (inputs, labels), (expected, expected_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(inputs, expected)
        assert torch.equal(labels, expected_labels)


def test_random_crops_depend_on_the_seed_alone(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(image_bytes(ramp(40, 40, step=5)))
    files = whole_files(tmp_path, ["a.png"] * 24)
    drawn = [
        torch.cat([x for x, _ in batches(pictures, 5, seeded(seed), augment=True)])
        for threads, seed in ((1, 0), (8, 0), (8, 1))
        for pictures in [LazyImages(files, torch.zeros(24).long(), 8, threads=threads)]
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert len({tuple(image.flatten().tolist()) for image in drawn[0]}) == 24


def test_decoded_pixels_are_kept_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    first = lazy(tmp_path).load(cache)
    with monkeypatch.context() as patched:
        patched.setattr(images, "decode", None)
        assert torch.equal(lazy(tmp_path).load(cache).inputs, first.inputs)
    lazy(tmp_path, size=5).load(cache)
    (tmp_path / "a03.png").write_bytes(plain_image(200, "JPEG"))
    names = [f"a{k:02}.png" for k in range(6)]
    changed = LazyImages(whole_files(tmp_path, names), first.labels, 4).load(cache)
    assert abs(brightness(changed.inputs)[3] - 200) <= 1
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", plain_image(3)[:60], plain_image(3, "JPEG")[:400]]
)
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes):
    pictures = lazy(tmp_path)
    (tmp_path / "a02.png").write_bytes(content.ljust(1 + int(pictures.encoded.lengths[2]), b"\0"))
    with pytest.raises(FileError, match=r"a02\.png: is no whole JPEG or PNG image"):
        pictures.load()


def test_files_that_vanish_or_shrink_are_named(tmp_path: Path):
    pictures = lazy(tmp_path)
    (tmp_path / "a02.png").write_bytes(b"short")
    with pytest.raises(FileError, match=r"a02\.png: shorter than when it was found"):
        pictures.load()
    (tmp_path / "a02.png").unlink()
    with pytest.raises(FileError, match=r"a02\.png: cannot be read"):
        pictures.load()


def test_what_does_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pictures = lazy(tmp_path)
    assert pictures.nbytes == pictures.load().inputs.nbytes
    monkeypatch.setattr(images, "_memory_bytes", lambda: pictures.nbytes - 1)
    with pytest.raises(DataError, match=r"6 images of 4 by 4 pixels take .* smaller size, or draw"):
        pictures.load()


def test_settings_out_of_range_are_refused(tmp_path: Path):
    files = lazy(tmp_path).encoded
    with pytest.raises(DataError, match="6 images have 5 labels"):
        LazyImages(files, torch.arange(5))
    with pytest.raises(DataError, match="a size of 0 pixels"):
        LazyImages(files, torch.arange(6), 0)


def test_parts_of_a_batch_are_cut_as_they_are_for_one_process(tmp_path: Path):
    found = lazy(tmp_path, count=5)
    (whole,) = found.stream([torch.arange(5)], seeded())
    halves = [slice(0, 2), slice(2, 5)]
    parts = [next(found.stream([torch.arange(5)], seeded(), [half])) for half in halves]
    assert torch.equal(torch.cat(parts), whole)
    assert [len(part) for part in parts] == [2, 3]
