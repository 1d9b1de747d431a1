"""Read and write files so that a crash, a full disk or a foreign file never goes unnoticed.

Everything is written under a temporary name in the same folder and then renamed, so a reader sees
the old file or the new one, never half of one. Nothing is ever unpickled beyond plain tensors.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from symport.errors import FileError
from symport.io._torch_files import SUFFIXES, load_state_dict

PathLike: TypeAlias = str | os.PathLike[str]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def save_tensors(
    path: PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as one safetensors file.

    Args:
        path: Where to write; an existing file is replaced in one step.
        tensors: Tensors by name, on any device. Views and shared tensors are written in full, each
            under its own name.
        metadata: Text to keep beside the tensors.

    Raises:
        FileError: The file cannot be written. Nothing is left behind, an older file is untouched.
    """
    with _replacing(Path(path)) as temporary:
        save_file(_separate(tensors), temporary, dict(metadata) if metadata else None)


def load_tensors(path: PathLike) -> dict[str, Tensor]:
    """Read tensors onto the CPU.

    Args:
        path: A `.safetensors` file, or a `.pt`, `.pth` or `.bin` file with a state dict: a flat
            dict of tensors, alone or under the key `"state_dict"` (what lies beside it is not
            read).

    Returns:
        Tensors by name, in the order of the file.

    Raises:
        FileError: The file is missing, empty, cut short, of another format, or a pickle of more
            than tensors, which is refused because unpickling can run any code.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        with open_tensors(path) as tensors:
            return dict(tensors)
    if path.suffix in SUFFIXES:
        check_readable(path)
        return load_state_dict(path)
    raise FileError(f"{path}: the ending must be one of .safetensors {' '.join(SUFFIXES)}")


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read from disk when asked for.

    Open one with `open_tensors`, and close it by leaving the `with` block.

    Attributes:
        path: The file.
        metadata: Text kept beside the tensors.
    """

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self.metadata: dict[str, str] = handle.metadata() or {}
        self._handle = handle
        self._names: tuple[str, ...] = tuple(handle.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return cast("Tensor", self._handle.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def outline(self) -> dict[str, Tensor]:
        """Shapes and dtypes without contents: tensors on the `meta` device."""
        slices = {name: self._handle.get_slice(name) for name in self._names}
        return {
            name: torch.empty(part.get_shape(), dtype=self._dtype(name, part), device="meta")
            for name, part in slices.items()
        }

    def _dtype(self, name: str, part: Any) -> torch.dtype:
        if part.get_dtype() not in DTYPES:
            raise FileError(f"{self.path}: {name} has the unknown dtype {part.get_dtype()}")
        return DTYPES[part.get_dtype()]


@contextmanager
def open_tensors(path: PathLike) -> Generator[TensorFile]:
    """Open a safetensors file to read single tensors from it.

    Raises:
        FileError: The file is missing, empty, cut short, or of another format.
    """
    path = Path(path)
    check_readable(path)
    try:
        handle = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise FileError(
            f"{path}: cut short, or not a safetensors file ({error}); copy or write it again"
        ) from error
    with handle:
        yield TensorFile(path, handle)


def make_folder(folder: PathLike) -> Path:
    """Make a folder and those above it, unless it is there.

    Raises:
        FileError: It cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{folder}: cannot make this folder ({error.strerror}); choose another"
        ) from error
    return Path(folder)


def take_lock(path: PathLike) -> int:
    """Lock a file or folder against other processes, until the descriptor is closed.

    The system closes it with the process, however that ends.

    Returns:
        The descriptor, for `os.close`.

    Raises:
        FileError: Another process has the lock, or the file cannot be opened.
    """
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError as error:
        raise FileError(f"{path}: cannot be opened ({error.strerror})") from error
    if sys.platform == "win32":  # has no such locks: there two processes are not told apart
        return descriptor
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            os.close(descriptor)
            raise FileError(
                f"{path}: another process is at work there; wait for it, or choose another folder"
            ) from error
        # Some network drives have no locks. One process at a time is right without.
    return descriptor


@contextmanager
def locked(folder: PathLike) -> Generator[Path]:
    """Make a folder, and keep other processes out that ask in the same way.

    A new one in which nothing was written is removed again.

    Raises:
        FileError: It cannot be made, or another process works there.
    """
    is_new = not Path(folder).exists()
    descriptor = take_lock(make_folder(folder))
    try:
        yield Path(folder)
    finally:
        os.close(descriptor)
        if is_new:
            with suppress(OSError):  # it holds something by now, as it should
                Path(folder).rmdir()


def read_json(path: PathLike) -> Any:
    """The content of a JSON file.

    Raises:
        FileError: It is missing, may not be read, is no UTF-8, or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise FileError(f"{path}: is nested too deeply to be read") from error
    except (OSError, ValueError) as error:  # among them what is no UTF-8
        raise FileError(f"{path}: cannot be read as JSON ({error}); copy it again") from error


def write_text(path: PathLike, text: str) -> None:
    """Write a UTF-8 text file in one step.

    Raises:
        FileError: The file cannot be written. Nothing is left behind, an older file is untouched.
    """
    write_bytes(path, text.encode())


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write a file in one step.

    Raises:
        FileError: The file cannot be written. Nothing is left behind, an older file is untouched.
    """
    with _replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def append_line(path: PathLike, line: str) -> None:
    """Add one line to a UTF-8 text file, and wait until it is on the disk.

    A last line that a crash left unfinished is closed first, so that the new one stands alone.

    Raises:
        FileError: The file cannot be written, or the line holds a line break.
    """
    path = Path(path)
    if "\n" in line:
        raise FileError(f"{path}: {line!r} holds a line break, and is to be one line")
    try:
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error}); {remedy(path)}") from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, dtypes, shapes and bytes, the same in any order of names.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest({"w": torch.zeros(2)})[:8]
        '216dae34'
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        header = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        total.update(f"{header}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, no two of which share memory, as the format demands."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        place = whole.untyped_storage().data_ptr()
        result[name] = whole.clone() if place in seen else whole
        seen.add(place)
    return result


def check_readable(path: Path) -> None:
    """Raise FileError if a file is missing, may not be read, or is empty."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if empty:
        raise FileError(f"{path}: the file is empty; copy or write it again")


@contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """A temporary name beside `path`, which takes its place once the body has succeeded."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # safetensors would leave it readable by the owner alone
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path}: cannot be written ({error}); {remedy(path)}") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; only POSIX can do so for an open reader."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remedy(path: Path) -> str:
    """What to do about a file that cannot be written."""
    folder = path.parent
    if not folder.is_dir():
        return f"create the folder {folder} first"
    if path.is_dir():
        return "it is a folder: give the name of a file in it"
    if not os.access(folder, os.W_OK):
        return "its folder is not writable: choose another"
    free = shutil.disk_usage(folder).free
    return f"{free:,} bytes are free on that disk: make room there, or choose another folder"
