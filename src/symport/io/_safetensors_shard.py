"""One safetensors file, read by offset and written piece by piece.

Tensors are read into new memory, not through a memory map: mapped pages count as resident until the
file is closed, and a checkpoint may be larger than memory.
"""

import json
import math
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from symport.errors import FileError, ParamsError
from symport.io._files import DTYPES, open_tensors, sync, write_advice
from symport.params import Params

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_UNFINISHED = ".part"
_FLUSHED = 2**26  # bytes: written to the disk while the next tensors are computed


@dataclass(frozen=True, eq=False)
class Shard:
    """A safetensors file that is open for reading.

    Attributes:
        path: The file.
        outline: Shapes and dtypes, on the `meta` device, in the order of the contents.
        metadata: Text stored with the tensors.
    """

    path: Path
    outline: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    _starts: Mapping[str, int]
    _file: FileIO

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Read a tensor, or some of its rows: positions `start` to `stop` of its first axis.

        Raises:
            FileError: The file has become shorter since it was opened.
        """
        whole = self.outline[name]
        shape = list(whole.shape)
        if shape:
            stop = shape[0] if stop is None else min(stop, shape[0])
            shape[0] = stop - start
        each = math.prod(whole.shape[1:]) * whole.itemsize
        result = torch.empty(shape, dtype=whole.dtype)
        self._fill(_bytes(result), self._starts[name] + start * each)
        return result

    def prefetch(self, name: str) -> None:
        """Ask the system to read a tensor from the disk ahead of time, where it supports that."""
        if hasattr(os, "posix_fadvise"):
            size = self.outline[name].numel() * self.outline[name].itemsize
            place = self._starts[name]
            os.posix_fadvise(self._file.fileno(), place, size, os.POSIX_FADV_WILLNEED)

    def _fill(self, buffer: memoryview, place: int) -> None:
        self._file.seek(place)
        while buffer:
            count = self._file.readinto(buffer)  # at most 2 GiB at a time
            if not count:
                raise FileError(f"{self.path}: cut short while being read; copy or write it again")
            buffer = buffer[count:]


@contextmanager
def open_shard(path: Path) -> Generator[Shard]:
    """Open a safetensors file to read parts of it.

    Raises:
        FileError: The file is missing, empty, truncated, or of another format.
    """
    with open_tensors(path) as checked:
        outline, metadata = checked.outline(), checked.metadata
    with FileIO(path) as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        starts = {name: 8 + size + int(header[name]["data_offsets"][0]) for name in outline}
        ordered = {name: outline[name] for name in sorted(outline, key=starts.__getitem__)}
        yield Shard(path, ordered, metadata, starts, file)


class ShardWriter:
    """A safetensors file that is being written under a temporary name.

    Args:
        path: The final name of the file.
        outline: Shapes and dtypes of its tensors.
        metadata: Text to store with the tensors.

    Attributes:
        path: The final name of the file.
    """

    def __init__(self, path: Path, outline: Params, metadata: Mapping[str, str]) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}{_UNFINISHED}")
        self._header, self._starts = _header(outline, metadata)
        self._waiting = 0
        with _blaming(path):
            self._file = FileIO(self._temporary, "w")

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one tensor at its offset; its shape and dtype are as in the outline."""
        with _blaming(self.path):
            self._put(_bytes(tensor.detach().cpu().contiguous()), self._starts[name])
            self._waiting += tensor.numel() * tensor.itemsize
            if self._waiting >= _FLUSHED:
                os.fsync(self._file.fileno())
                self._waiting = 0

    def finish(self) -> None:
        """Write the header, wait until all is on the disk, and rename the file."""
        with _blaming(self.path):
            self._put(memoryview(self._header), 0)
            self._file.close()
            sync(self._temporary)
            self._temporary.replace(self.path)

    def abandon(self) -> None:
        """Remove what has been written, under either name."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _put(self, content: memoryview, place: int) -> None:
        self._file.seek(place)
        while content:
            content = content[self._file.write(content) :]


def is_temporary(path: Path) -> bool:
    """Whether a file was left by a `ShardWriter` that was interrupted."""
    return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


def _header(outline: Params, metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """The bytes before the contents, and the offset of each tensor.

    Wide dtypes come first, so that every tensor is aligned to the size of its elements.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    starts: dict[str, int] = {}
    end = 0
    for name in sorted(outline, key=lambda name: -outline[name].itemsize):
        tensor = outline[name]
        if tensor.dtype not in _NAMES:
            raise ParamsError(f"{name}: a safetensors file cannot hold {tensor.dtype}; convert it")
        starts[name], end = end, end + tensor.numel() * tensor.itemsize
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [starts[name], end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    first = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {n: first + at for n, at in starts.items()}


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


@contextmanager
def _blaming(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error}); {write_advice(path)}") from error
