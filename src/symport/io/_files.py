"""Read and write files so that a crash, a full disk or a damaged file is always reported.

Everything is written under a temporary name in the same folder and then renamed, so a reader finds
the old file or the new one, never a partial one. Nothing but tensors is ever unpickled.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
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
        path: Where to write; an existing file is replaced atomically.
        tensors: Tensors by name, of any shape and on any device. Views and tensors that share
            memory are each written in full.
        metadata: Text to store with the tensors.

    Raises:
        FileError: The file cannot be written; an existing file is then unchanged.

    Example:
        >>> save_tensors(folder / "w.safetensors", {"w": torch.ones(2)})
        >>> load_tensors(folder / "w.safetensors")
        {'w': tensor([1., 1.])}
    """
    with _replacing(Path(path)) as temporary:
        save_file(_separate(tensors), temporary, dict(metadata) if metadata else None)


def load_tensors(path: PathLike) -> dict[str, Tensor]:
    """Read tensors onto the CPU.

    Args:
        path: A `.safetensors` file, or a `.pt`, `.pth` or `.bin` file with a state dict: a flat
            dict of tensors, alone or under the key `"state_dict"` (other keys are ignored).

    Returns:
        Tensors by name, in the order of the file.

    Raises:
        FileError: The file is missing, empty, truncated, of another format, or a pickle of more
            than tensors, which is rejected because unpickling can run any code.

    Example:
        >>> torch.save({"w": torch.ones(2)}, folder / "w.pt")
        >>> load_tensors(folder / "w.pt")
        {'w': tensor([1., 1.])}
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
    """The tensors of a safetensors file, each read from disk on access.

    It is opened by `open_tensors`, and closed at the end of the `with` block.

    Attributes:
        path: The file.
        metadata: Text stored with the tensors.

    Example:
        >>> save_tensors(folder / "w.safetensors", {"w": torch.ones(2)}, {"epoch": "3"})
        >>> with open_tensors(folder / "w.safetensors") as tensors:
        ...     list(tensors), tensors.metadata
        (['w'], {'epoch': '3'})
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
        FileError: The file is missing, empty, truncated, or of another format.

    Example:
        >>> save_tensors(folder / "two.safetensors", {"v": torch.zeros(9), "w": torch.ones(2)})
        >>> with open_tensors(folder / "two.safetensors") as tensors:
        ...     tensors["w"]  # nothing else is read
        tensor([1., 1.])
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
    """Create a folder and its parents, unless it exists.

    Raises:
        FileError: It cannot be created.

    Example:
        >>> make_folder(folder / "a" / "b").is_dir()
        True
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{folder}: cannot make this folder ({error.strerror}); choose another"
        ) from error
    return Path(folder)


def read_json(path: PathLike) -> Any:
    """The content of a JSON file.

    Raises:
        FileError: It is missing or not readable, not UTF-8, or not JSON.

    Example:
        >>> write_text(folder / "config.json", '{"layers": 2}')
        >>> read_json(folder / "config.json")
        {'layers': 2}
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise FileError(f"{path}: is nested too deeply to be read") from error
    except (OSError, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        raise FileError(f"{path}: cannot be read as JSON ({error}); copy it again") from error


def write_text(path: PathLike, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        FileError: The file cannot be written; an existing file is then unchanged.

    Example:
        >>> write_text(folder / "note.txt", "α = 0.5")
        >>> (folder / "note.txt").read_text(encoding="utf-8")
        'α = 0.5'
    """
    write_bytes(path, text.encode())


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        FileError: The file cannot be written; an existing file is then unchanged.

    Example:
        >>> write_bytes(folder / "raw", bytes(4))
        >>> (folder / "raw").stat().st_size
        4
    """
    with _replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def append_line(path: PathLike, line: str) -> None:
    """Append one line to a UTF-8 text file, and wait until it is on the disk.

    If a crash left the last line incomplete, the new line still starts on a line of its own.

    Raises:
        FileError: The file cannot be written, or the line contains a line break.

    Example:
        >>> for line in ("step 1", "step 2"):
        ...     append_line(folder / "log.txt", line)
        >>> (folder / "log.txt").read_text(encoding="utf-8").splitlines()
        ['step 1', 'step 2']
    """
    path = Path(path)
    if "\n" in line:
        raise FileError(f"{path}: {line!r} contains a line break; pass one line at a time")
    try:
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error}); {write_advice(path)}") from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, dtypes, shapes and bytes, whatever the order of the names.

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
    """Contiguous CPU tensors, no two of which share memory, as the format requires."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        place = whole.untyped_storage().data_ptr()
        result[name] = whole.clone() if place in seen else whole
        seen.add(place)
    return result


def check_readable(path: Path) -> None:
    """Raise FileError if a file is missing, not readable or empty.

    Raises:
        FileError: It is missing, not readable or empty.

    Example:
        >>> check_readable(folder / "absent")
        Traceback (most recent call last):
            ...
        symport.errors.FileError: ...absent: cannot be read (No such file or directory); check ...
    """
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if empty:
        raise FileError(f"{path}: the file is empty; copy or write it again")


@contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """A temporary file that replaces the file at `path` once the body has succeeded."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # safetensors would make it readable by the owner alone
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path}: cannot be written ({error}); {write_advice(path)}") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; does nothing on systems other than POSIX.

    Example:
        >>> sync(folder)
    """
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_advice(path: Path) -> str:
    """The next step, for the message of an error about a file that cannot be written."""
    folder = path.parent
    if not folder.is_dir():
        return f"create the folder {folder} first"
    if path.is_dir():
        return "it is a folder: give the name of a file in it"
    if not os.access(folder, os.W_OK):
        return "its folder is not writable: choose another"
    free = shutil.disk_usage(folder).free
    return f"{free:,} bytes are free on that disk: make room there, or choose another folder"
