"""Tiny files in the formats of the official data sets, and the real ones where they are at hand."""

import gzip
import io
import lzma
import math
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

REPOSITORY = Path(__file__).resolve().parents[2]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
}


def idx_bytes(shape: tuple[int, ...], values: bytes) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + values


def write_idx(folder: Path, name: str, shape: tuple[int, ...], values: bytes, ending: str = ""):
    (folder / f"{name}{ending}").write_bytes(PACK[ending](idx_bytes(shape, values)))


def write_mnist(folder: Path, *, ending: str = "", labels: tuple[bytes, bytes] | None = None):
    """Five training and three test images of 2 by 3 pixels, counting up from 0."""
    train, test = labels or (bytes((3, 1, 4, 1, 9)), bytes((2, 7, 0)))
    for half, n, values in (("train", 5, train), ("t10k", 3, test)):
        pixels = bytes(range(n * 6))
        write_idx(folder, f"{half}-images-idx3-ubyte", (n, 2, 3), pixels, ending)
        write_idx(folder, f"{half}-labels-idx1-ubyte", (len(values),), values, ending)


def short(text: bytes) -> bytes:
    return b"U" + bytes((len(text),)) + text


def number(value: int) -> bytes:
    return b"M" + struct.pack("<H", value)


def python2_pickle(key: bytes, labels: list[int], shape: tuple[int, int], data: bytes) -> bytes:
    """The opcodes of the official batches, which Python 2 wrote, put together by hand."""
    assert math.prod(shape) == len(data)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n"
        + b"(K\x00t" + short(b"b") + b"\x87R"
        + b"(K\x01" + number(shape[0]) + number(shape[1]) + b"\x86"
        + b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R"
        + b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )  # fmt: skip
    listed = b"](" + b"".join(b"K" + bytes((label,)) for label in labels) + b"e"
    return b"\x80\x02}(" + short(b"data") + array + short(key) + listed + b"u."


def write_batch(path: Path, key: str, labels: list[int], *, seed: int = 0) -> bytes:
    """A batch as Python 3 and today's numpy write it; returns the pickle."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    content = pickle.dumps({b"data": pixels, key.encode(): labels}, protocol=2)
    path.write_bytes(PACK[path.suffix](content))
    return content


def real_data(folder: str) -> Path:
    """The official files, or skip the test."""
    named = os.environ.get("SYMPORT_DATA")
    if named and (Path(named) / folder).is_dir():
        return Path(named) / folder
    pytest.skip(f"the official files of {folder} are not here; set SYMPORT_DATA to have them")


def image_bytes(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """A file of uint8 pixels, `(height, width)` or `(height, width, 3)`."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return out.getvalue()


def plain_image(value: int, kind: str = "PNG") -> bytes:
    """An image in one shade of grey, by which it can be told from others."""
    return image_bytes(np.full((8, 12, 3), value, dtype=np.uint8), kind)


def write_images(folder: Path, **values: int):
    """Plain images under names with two underscores in place of a slash."""
    for name, value in values.items():
        path = folder / f"{name.replace('__', '/')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain_image(value))


def tar_bytes(files: dict[str, bytes], mode: Literal["w", "w:gz"] = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def records(**columns: list[Any]) -> np.ndarray:
    """What `savemat` writes as an array of structs."""
    rows = list(zip(*columns.values(), strict=True))
    return np.array(rows, dtype=[(name, object) for name in columns]).reshape(1, -1)


def mat_bytes(**variables: Any) -> bytes:
    out = io.BytesIO()
    savemat(out, variables)
    return out.getvalue()
