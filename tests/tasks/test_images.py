"""Images of every mode, against numpy's own arithmetic on the pixels that were drawn."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from symport.errors import DataError, FileError
from symport.tasks._images import ImageScaling, find_images, load_images

PLAIN = ImageScaling((4, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
RAMP = np.linspace(0, 65535, 16).reshape(4, 4).round()


def png(path, pixels: np.ndarray) -> None:
    """A 16-bit RGB file, which Pillow does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def shares(path, how=PLAIN) -> torch.Tensor:
    return load_images([path], how)[0]


@pytest.mark.parametrize(
    ("name", "pixels", "most"),
    [
        ("a.png", RAMP.astype(np.uint16), 65535),
        ("a.tif", RAMP.astype(np.uint16), 65535),
        ("a.tif", RAMP.astype(np.int32), 65535),
        ("dark.png", np.minimum(RAMP, 1).astype(np.uint16), 65535),
        ("a.png", (RAMP / 257).astype(np.uint8), 255),
        ("a.tif", (RAMP / 65535).astype(np.float32), 1),
        ("b.tif", (RAMP / 257).astype(np.float32), 255),
        ("c.tif", RAMP.astype(np.float32), 65535),
    ],
)
def test_pixels_are_shares_of_the_most_that_their_depth_holds(tmp_path, name, pixels, most):
    Image.fromarray(pixels).save(tmp_path / name)
    expected = torch.tensor(pixels.astype(np.float64) / most).float().expand(3, 4, 4)
    assert torch.allclose(shares(tmp_path / name), expected, atol=1e-6)
    grey = ImageScaling((4, 4), (0.5,), (0.25,))
    assert torch.allclose(shares(tmp_path / name, grey), (expected[:1] - 0.5) / 0.25, atol=1e-5)


def test_colours_of_16_bits_are_scaled_too(tmp_path):
    pixels = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    png(tmp_path / "a.png", pixels)
    expected = torch.tensor(pixels / 65535).float().permute(2, 0, 1)
    assert torch.allclose(shares(tmp_path / "a.png"), expected, atol=1 / 255)


def test_palettes_alpha_and_print_colours_are_as_they_look(tmp_path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2, :, 0], colours[2:, :, 1] = 255, 255
    image = Image.fromarray(colours)
    image.quantize(4).save(tmp_path / "palette.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.convert("CMYK").save(tmp_path / "print.tif")
    image.save(tmp_path / "first.gif", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    expected = torch.tensor(colours / 255).float().permute(2, 0, 1)
    for path in tmp_path.iterdir():
        assert torch.allclose(shares(path), expected, atol=0.02), path
    Image.fromarray(colours[:, :, 0] > 0).save(tmp_path / "bits.png")
    assert torch.allclose(shares(tmp_path / "bits.png"), expected[:1].expand(3, 4, 4))


def test_scaling_sixteen_bits_is_scaling_eight(tmp_path):
    """Of one picture in two depths."""
    eight = np.random.default_rng(0).integers(0, 256, (32, 24)).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "16.png")
    how = ImageScaling((7, 5), (0.5, 0.4, 0.3), (0.5, 0.5, 0.2))
    first, second = (shares(tmp_path / name, how) for name in ("8.png", "16.png"))
    assert torch.allclose(first, second, atol=0.02)


@pytest.mark.parametrize("values", [[-1.0, 0.5], [0.0, 1e9], [float("nan"), 1.0]])
def test_numbers_of_unknown_range_are_refused(tmp_path, values):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(FileError, match=r"x\.tif: its pixels are from .* of unknown range"):
        shares(tmp_path / "x.tif")


def test_what_cannot_be_read_is_one_line(tmp_path):
    bomb = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + check)
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(FileError, match=f"{path.name}: cannot be read as an image") as caught:
            shares(path)
        assert "\n" not in str(caught.value)


def test_hidden_files_are_passed_over_and_others_are_found(tmp_path):
    for name in ("cat/a.png", "cat/._a.png", "dog/b.JPG", "dog/notes.txt", ".cache/c.png",
                 ".ipynb_checkpoints/x.png", "top.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_images(tmp_path)
    assert [(path.name, kind) for path, kind in found.images] == [
        ("a.png", "cat"),
        ("b.JPG", "dog"),
    ]
    assert [path.name for path in found.others] == ["notes.txt"]
    with pytest.raises(DataError, match="has no folders with images"):
        find_images(tmp_path / "cat")
    with pytest.raises(FileError, match="no such folder"):
        find_images(tmp_path / "top.png")
