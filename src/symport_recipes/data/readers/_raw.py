"""Read the files of data sets: plain, gzip or xz, recognised by their first bytes."""

import gzip
import hashlib
import io
import lzma
import zlib
from pathlib import Path

import torch
from torch import Tensor

from symport.errors import FileError

GZIP = b"\x1f\x8b"
XZ = b"\xfd7zXZ\x00"
LIMIT = 1 << 30  # bytes; the largest file read here, CIFAR-100's training set, has 155 million


def find_file(folder: Path, name: str) -> Path | None:
    """The file `name` of a folder, or `name.gz`, or `name.xz`, whichever is there first."""
    choices = (folder / f"{name}{ending}" for ending in ("", ".gz", ".xz"))
    return next((path for path in choices if path.is_file()), None)


def require_file(folder: Path, name: str) -> Path:
    """The same, but raise FileError if none is there."""
    path = find_file(folder, name)
    if path is None:
        raise FileError(
            f"{folder / name}: no such file, nor with .gz or .xz; put the official file there"
        )
    return path


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a whole file, unpacked if it is packed.

    Args:
        path: The file.
        limit: Largest size in bytes after unpacking, so that a small file cannot fill memory.

    Raises:
        FileError: It cannot be read, is damaged or cut short, or is larger than the limit.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(XZ))
        with _opened(path, start) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FileError(f"{path}: cannot be read ({error}); fetch it again") from error
    if len(content) > limit:
        raise FileError(f"{path}: holds more than {limit} bytes; it is not the official file")
    return content


def as_tensor(content: bytes) -> Tensor:
    """The bytes as a tensor, shape `(n,)`, uint8."""
    # A bytearray is a copy that may be written to; an empty one has no memory to share.
    empty = torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else empty


def md5(content: bytes) -> str:
    """The md5 sum in hexadecimal, by which the official files are known."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _opened(path: Path, start: bytes) -> io.BufferedIOBase:
    if start.startswith(XZ):
        return lzma.LZMAFile(path)
    if start.startswith(GZIP):
        return gzip.GzipFile(path)
    return path.open("rb")
