"""Locations of encoded images: whole files, or slices of a tar that is never unpacked."""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from symport.errors import FileError


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encoded images by number: slices of files.

    Attributes:
        folder: It or its subfolders hold all files.
        names: The file of each image, from the folder on, with forward slashes.
        starts: First byte of each in its file, shape `(n,)`, int64.
        lengths: In bytes, shape `(n,)`, int64.
    """

    folder: Path
    names: tuple[str, ...]
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        """The file of one image and its first byte, for messages."""
        start = int(self.starts[number])
        return f"{self.folder / self.names[number]}{f', byte {start}' if start else ''}"

    def read(self, number: int) -> bytes:
        """One encoded image.

        Raises:
            FileError: It cannot be read, or not whole.
        """
        length = int(self.lengths[number])
        try:
            # Opened anew each time: many threads read at once.
            with (self.folder / self.names[number]).open("rb") as file:
                file.seek(int(self.starts[number]))
                content = file.read(length)
        except OSError as error:
            raise FileError(
                f"{self.name(number)}: cannot be read ({error.strerror}); put the file back"
            ) from error
        if len(content) < length:
            raise FileError(f"{self.name(number)}: shorter than when it was found; copy it again")
        return content

    def part(self, index: Tensor) -> "Encoded":
        """The images at these places, in this order."""
        names = tuple(self.names[number] for number in index.tolist())
        return replace(self, names=names, starts=self.starts[index], lengths=self.lengths[index])

    def digest(self) -> str:
        """A hash of names, places and lengths."""
        places = [self.names, self.starts.tolist(), self.lengths.tolist()]
        return hashlib.sha256(json.dumps(places).encode()).hexdigest()


def whole_files(folder: Path, names: Sequence[str]) -> Encoded:
    """Files that a list names.

    Raises:
        FileError: One is missing, or a name leads out of the folder.
    """
    lengths = [_size(folder, name) for name in names]
    if absent := [name for name, length in zip(names, lengths, strict=True) if length < 0]:
        raise FileError(
            f"{folder / absent[0]}: no such file; {len(absent)} of {len(names)} images that the "
            "list names are missing: unpack the official archive again"
        )
    sizes = torch.tensor(lengths, dtype=torch.int64)
    return Encoded(folder, tuple(names), torch.zeros_like(sizes), sizes)


@dataclass(frozen=True)
class Member:
    """A plain file in a tar.

    Attributes:
        name: The last component of the name in the tar; never used as a path.
        start: Its first byte in the tar.
        length: In bytes.
    """

    name: str
    start: int
    length: int


def tar_members(path: Path, inside: Member | None = None) -> list[Member]:
    """The plain files of an uncompressed tar, or of a tar that is a member of it, by name.

    Only headers are read. Folders are skipped.

    Raises:
        FileError: It is not a tar, is truncated, or holds links or devices.
    """
    offset = inside.start if inside else 0
    try:
        end = offset + inside.length if inside else path.stat().st_size
        return sorted(_members(path, offset, end), key=lambda member: member.name)
    except (OSError, ValueError, tarfile.TarError) as error:
        where = f"{path}, {inside.name}" if inside else str(path)
        raise FileError(f"{where}: cannot be read as a tar ({error}); copy it again") from error


def tar_slices(path: Path, members: Sequence[Member]) -> Encoded:
    """These members of a tar."""
    places = [(member.start, member.length) for member in members]
    starts, lengths = torch.tensor(places, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return Encoded(path.parent, (path.name,) * len(members), starts, lengths)


def _members(path: Path, offset: int, end: int) -> Iterator[Member]:
    with path.open("rb") as file:
        file.seek(offset)  # tarfile counts from the start of the file, wherever it begins to read
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for entry in tar:
                if entry.offset_data + entry.size > end:
                    raise ValueError(f"it is cut short in {entry.name!r}")
                if not entry.isdir() and (not entry.isreg() or entry.issparse()):
                    raise ValueError(f"{entry.name!r} is no plain file")
                if entry.isreg():
                    yield Member(PurePosixPath(entry.name).name, entry.offset_data, entry.size)


def _size(folder: Path, name: str) -> int:
    """In bytes; -1 if there is no such file."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise FileError(f"{folder}: {name!r} leads out of it; use the official lists")
    try:
        return (folder / name).stat().st_size
    except OSError:
        return -1
