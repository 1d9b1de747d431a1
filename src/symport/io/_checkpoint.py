"""The weights of a model folder: one or many safetensors files, read and written by tensor."""

import json
import shlex
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from symport.errors import FileError, brief
from symport.io._files import PathLike
from symport.io._safetensors_shard import Shard, open_shard
from symport.io._torch_files import SUFFIXES
from symport.params import listed

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"

LONGEST = 200  # bytes of a file's name: file systems allow 255, of which temporary names need some


class TensorReader(Protocol):
    """Reads one tensor from a file, or computes it from others that are read.

    Attributes:
        like: A tensor of its shape and dtype, on the `meta` device.
        file: The name of the file that contains it, or the first part of it.
    """

    @property
    def like(self) -> Tensor:
        """Shape and dtype."""
        ...

    @property
    def file(self) -> str:
        """The name of the file."""
        ...

    def rows(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Positions `start` to `stop` of its first axis."""
        ...

    def prefetch(self) -> None:
        """Ask the system to read it from the disk ahead of time."""
        ...


@dataclass(frozen=True, eq=False)
class ShardTensor:
    """A tensor of a safetensors file."""

    shard: Shard
    name: str

    @property
    def like(self) -> Tensor:
        """Shape and dtype, on the `meta` device."""
        return self.shard.outline[self.name]

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.shard.path.name

    def rows(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Positions `start` to `stop` of its first axis; nothing else is read."""
        return self.shard.rows(self.name, start, stop)

    def prefetch(self) -> None:
        """Ask the system to read it from the disk ahead of time."""
        self.shard.prefetch(self.name)


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint, each read from disk on access.

    It is opened by `open_checkpoint`, and closed at the end of the `with` block.

    Attributes:
        path: The file or folder that was opened.
        readers: The reader of each tensor, in the order of the files.
        metadata: Text stored in the first file.

    Example:
        >>> import torch
        >>> from symport.io import write_checkpoint
        >>> outline = {"w": torch.zeros(4, 2)}
        >>> write_checkpoint(folder / "m", outline, {"w": WEIGHTS}, [("w", torch.ones(4, 2))])
        >>> with open_checkpoint(folder / "m") as checkpoint:
        ...     checkpoint.rows("w", 0, 1), checkpoint.files
        (tensor([[1., 1.]]), {'w': 'model.safetensors'})
    """

    def __init__(self, path: Path, shards: Iterable[Shard]) -> None:
        shards = list(shards)
        self.path = path
        self.readers: Mapping[str, TensorReader] = {
            name: ShardTensor(shard, name) for shard in shards for name in shard.outline
        }
        self.metadata: Mapping[str, str] = shards[0].metadata if shards else {}

    def __getitem__(self, name: str) -> Tensor:
        return self.readers[name].rows()

    def __contains__(self, name: object) -> bool:
        return name in self.readers  # the default would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)

    @property
    def files(self) -> dict[str, str]:
        """The name of the file that contains each tensor, in the order of the files."""
        return {name: reader.file for name, reader in self.readers.items()}

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Positions `start` to `stop` of a tensor's first axis; nothing else of it is read."""
        return self.readers[name].rows(start, stop)

    def view(self, readers: Mapping[str, TensorReader]) -> "Checkpoint":
        """A checkpoint of other tensors, which are read through this one and closed with it.

        Example:
            >>> def renamed(checkpoint, before, after):
            ...     return checkpoint.view({after: checkpoint.readers[before]})
        """
        seen = copy(self)
        seen.readers = dict(readers)
        return seen

    def prefetch(self, name: str) -> None:
        """Ask the system to read a tensor from the disk while something else is computed."""
        self.readers[name].prefetch()

    def outline(self) -> dict[str, Tensor]:
        """Shapes and dtypes without contents: tensors on the `meta` device."""
        return {name: reader.like for name, reader in self.readers.items()}


@contextmanager
def open_checkpoint(path: PathLike) -> Generator[Checkpoint]:
    """Open a checkpoint to read single tensors from it.

    Args:
        path: A `.safetensors` file; or a folder with `model.safetensors`, else with
            `model.safetensors.index.json` and its shards, else with `adapter_model.safetensors`, in
            the order in which transformers looks for them.

    Raises:
        FileError: There is no such file, a file is missing, truncated or of another format, or
            the index does not agree with its files.

    Example:
        >>> import torch
        >>> from symport.io import save_tensors
        >>> save_tensors(folder / "model.safetensors", {"w": torch.ones(2)})
        >>> with open_checkpoint(folder) as checkpoint:
        ...     checkpoint["w"]
        tensor([1., 1.])
    """
    path = Path(path)
    # If both exist, transformers loads the single file.
    has_index = (path / INDEX).is_file() and not (path / WEIGHTS).is_file()
    index = _indexed(path / INDEX) if has_index else None
    names = sorted(set(index.values())) if index else []
    files = [path / name for name in names] if index else [_only_file(path)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileError(
            f"{path / INDEX} names {listed(missing)}, not in that folder; copy the missing shards"
        )
    with ExitStack() as stack:
        shards = [stack.enter_context(open_shard(file)) for file in files]
        if index is not None:
            _check_index(path / INDEX, index, shards)
        yield Checkpoint(path, shards)


def _only_file(path: Path) -> Path:
    """The file of weights at a path, or the single one in the folder there."""
    found = [path, path / WEIGHTS, path / ADAPTER]
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    pickled = [file for file in inside if file.suffix in SUFFIXES]
    for file in found:
        if file.is_file() and file not in pickled:
            return file
    if not path.exists():
        raise FileError(f"{path}: there is no such file or folder; check the path")
    if pickled:
        raise FileError(
            f"{path}: contains only pickled weights ({listed([f.name for f in pickled])}), which "
            f"can run any code; if you trust them, convert them: {_conversion(path, pickled)}"
        )
    raise FileError(f"{path}: has neither {WEIGHTS} nor {INDEX} nor {ADAPTER}")


def _conversion(path: Path, pickled: list[Path]) -> str:
    """A command that converts a pickled file, or all shards of a folder, to safetensors."""
    folder = path if path.is_dir() else path.parent
    parts = [file.name for file in pickled if file.name.startswith("pytorch_model")]
    parts = parts or [next((f.name for f in pickled if f.stem == "adapter_model"), pickled[0].name)]
    name = WEIGHTS if path.is_dir() else f"{path.stem}.safetensors"
    name = ADAPTER if parts == ["adapter_model.bin"] else name
    program = (
        "from symport.io import load_tensors, save_tensors; "
        f"save_tensors('{name}', {{k: t for f in {parts} for k, t in load_tensors(f).items()}})"
    )
    return f'cd {shlex.quote(str(folder))} && python -c "{program}"'


def _indexed(path: Path) -> dict[str, str]:
    """The file of each tensor according to an index."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in entries.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"not an index of shards ({brief(error)}); copy it again"
        raise FileError(f"{path}: {reason}") from error
    for file in names.values():
        shown = f"{file[:60]!r}{'…' if len(file) > 60 else ''}"
        if Path(file).name != file or "\\" in file or "\0" in file:
            raise FileError(f"{path}: names {shown}, which is outside its folder")
        if not file.endswith(".safetensors") or len(file.encode()) > LONGEST or file[0] == ".":
            raise FileError(
                f"{path}: names {shown}, which is not a safetensors file; copy it again"
            )
    if not names:
        raise FileError(f"{path}: names no tensors; copy the index and its shards again")
    return names


def _check_index(path: Path, index: Mapping[str, str], shards: Iterable[Shard]) -> None:
    found = {shard.path.name: shard.outline for shard in shards}
    advice = "copy the index and its shards again, from one source"
    if lost := [name for name, file in index.items() if name not in found[file]]:
        raise FileError(f"{path}: {index[lost[0]]} does not contain {listed(lost)}; {advice}")
    for file, outline in found.items():
        if extra := [name for name in outline if index.get(name) != file]:
            raise FileError(f"{path}: does not list {listed(extra)} of {file}; {advice}")
