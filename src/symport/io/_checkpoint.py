"""The weights of a model folder: one or many safetensors files, read and written piece by piece."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from symport.errors import FileError, ParamsError, brief
from symport.io._files import PathLike, remedy, write_text
from symport.io._safetensors_shard import Shard, ShardWriter, is_temporary, open_shard
from symport.io._torch_files import SUFFIXES
from symport.params import Params, listed

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
FORMAT = {"format": "pt"}  # transformers asks for it

LONGEST = 200  # bytes of a file's name: with what is put around it, file systems take 255
_SHARD = re.compile(r".+-\d+-of-\d+\.safetensors")


class Place(Protocol):
    """Where one tensor is read from: a file, or others that it is made of.

    Attributes:
        like: Its shape and dtype, on the `meta` device.
        file: The name of the file that holds it, or the first part of it.
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
        """Let the system read it from the disk already."""
        ...


@dataclass(frozen=True, eq=False)
class InShard:
    """A tensor that lies in a safetensors file under some name."""

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
        """Let the system read it from the disk already."""
        self.shard.prefetch(self.name)


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint, each read from disk when asked for.

    Open one with `open_checkpoint`, and close it by leaving the `with` block.

    Attributes:
        path: The file or folder that was opened.
        places: Where each tensor is read from, in the order of the files.
        metadata: Text kept in the first file.
    """

    def __init__(self, path: Path, shards: Iterable[Shard]) -> None:
        shards = list(shards)
        self.path = path
        self.places: Mapping[str, Place] = {
            name: InShard(shard, name) for shard in shards for name in shard.outline
        }
        self.metadata: Mapping[str, str] = shards[0].metadata if shards else {}

    def __getitem__(self, name: str) -> Tensor:
        return self.places[name].rows()

    def __contains__(self, name: object) -> bool:
        return name in self.places  # the default would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def files(self) -> dict[str, str]:
        """The name of the file that holds each tensor, in the order of the files."""
        return {name: place.file for name, place in self.places.items()}

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Positions `start` to `stop` of a tensor's first axis; nothing else of it is read."""
        return self.places[name].rows(start, stop)

    def view(self, places: Mapping[str, Place]) -> "Checkpoint":
        """Tensors made of those of this checkpoint; it closes along with this one.

        Example:
            >>> def renamed(checkpoint, before, after):
            ...     return checkpoint.view({after: checkpoint.places[before]})
        """
        seen = copy(self)
        seen.places = dict(places)
        return seen

    def prefetch(self, name: str) -> None:
        """Let the system read a tensor from the disk while something else is computed."""
        self.places[name].prefetch()

    def outline(self) -> dict[str, Tensor]:
        """Shapes and dtypes without contents: tensors on the `meta` device."""
        return {name: place.like for name, place in self.places.items()}


@contextmanager
def open_checkpoint(path: PathLike) -> Generator[Checkpoint]:
    """Open a checkpoint to read single tensors from it.

    Args:
        path: A `.safetensors` file; or a folder with `model.safetensors`, else with
            `model.safetensors.index.json` and its shards, else with `adapter_model.safetensors`, in
            the order in which transformers looks for them.

    Raises:
        FileError: Nothing of that kind is there, or a file is missing, cut short or foreign, or
            the index does not agree with its files.
    """
    path = Path(path)
    # Where both are there transformers takes the single file, so it is what anybody else loads.
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


def write_checkpoint(
    folder: PathLike,
    outline: Params,
    files: Mapping[str, str],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str] | None = None,
    *,
    keep: bool = False,
    advance: Callable[[str], object] = len,
) -> None:
    """Write a checkpoint while its tensors are being made; none is kept.

    Each is written while the next one is made, so it must stay as it is until then.

    Args:
        folder: Where to write; made if absent. If it is there it must be empty.
        outline: Shapes and dtypes of all tensors, on any device.
        files: The file name of each tensor. Several get an index, as does one by a name like
            `model-00001-of-00001.safetensors`.
        tensors: The tensors by name, in any order; that of the files is fastest.
        metadata: Text to keep in every file.
        keep: Whether files that are whole stay after an interruption. The same call goes on then;
            the tensors of such files (`finished_files`) are not asked for again.
        advance: Called with the name of each tensor as it goes to be written.

    Raises:
        FileError: The folder is not empty, or a file cannot be written. Nothing that looks
            finished is left behind, but with `keep`.
        ParamsError: A tensor is missing, unknown, given twice, or not as outlined.
    """
    folder = Path(folder)
    if odd := sorted(outline.keys() ^ files.keys()):
        raise ParamsError(f"outline and files differ in {listed(odd)}")
    done = finished_files(folder, outline, files) if keep else frozenset[str]()
    missing = {name: tensor for name, tensor in outline.items() if files[name] not in done}
    again = {INDEX, *files.values()} - done if keep else set[str]()
    _make_room(folder, sum(tensor.nbytes for tensor in missing.values()), done, again)
    writing = _Writing(folder, missing, files, {**FORMAT, **(metadata or {})})
    try:
        writing.begin()
        _write_all(writing, missing, files, tensors, advance)
        if len(set(files.values())) > 1 or any(map(_SHARD.fullmatch, files.values())):
            size = sum(tensor.nbytes for tensor in outline.values())
            index = {"metadata": {"total_size": size}, "weight_map": dict(files)}
            write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    except BaseException:  # a keyboard interrupt too
        writing.abandon(keep=keep)
        raise


def finished_files(folder: Path, outline: Params, files: Mapping[str, str]) -> frozenset[str]:
    """The files that are whole already: a file has its name only once all of it is on the disk.

    Args:
        folder: Where a call of `write_checkpoint` with `keep` was interrupted, or nothing.
        outline: As `write_checkpoint` takes it.
        files: Likewise.
    """
    found: set[str] = set()
    for file in set(files.values()):
        expected = {n: (t.shape, t.dtype) for n, t in outline.items() if files[n] == file}
        with suppress(FileError), open_shard(folder / file) as shard:
            if {n: (t.shape, t.dtype) for n, t in shard.outline.items()} == expected:
                found.add(file)
    return frozenset(found)


class _Writing:
    """The files of a checkpoint while they are written, each finished with its last tensor."""

    def __init__(
        self, folder: Path, outline: Params, files: Mapping[str, str], metadata: Mapping[str, str]
    ) -> None:
        self._folder, self._files, self._metadata = folder, files, metadata
        self._left: dict[str, dict[str, Tensor]] = {}
        for name, tensor in outline.items():
            self._left.setdefault(files[name], {})[name] = tensor
        self._writers: dict[str, ShardWriter] = {}
        self._finished: list[ShardWriter] = []

    def begin(self) -> None:
        """Open all files, which fails early if it does."""
        for file, outline in self._left.items():
            path = self._folder / file
            self._writers[file] = ShardWriter(path, dict(outline), self._metadata)

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor into its file."""
        file = self._files[name]
        left = self._left[file]
        self._writers[file].write(name, tensor)
        del left[name]
        if not left:
            self._writers[file].finish()
            self._finished.append(self._writers.pop(file))

    def abandon(self, *, keep: bool) -> None:
        """Remove what is not finished; what is too, unless it is kept to go on from."""
        for writer in self._writers.values():
            writer.abandon()
        for writer in [] if keep else self._finished:
            writer.abandon()


def _write_all(
    writing: _Writing,
    outline: Params,
    files: Mapping[str, str],
    tensors: Iterable[tuple[str, Tensor]],
    advance: Callable[[str], object],
) -> None:
    missing = dict(outline)
    with ThreadPoolExecutor(1) as hand:  # one tensor is written while the next one is made
        written: Future[None] | None = None
        for name, tensor in tensors:
            if name not in missing:
                raise ParamsError(f"{name}: not in the outline, or given twice")
            expected = missing.pop(name)
            if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
                raise ParamsError(
                    f"{name}: {tuple(tensor.shape)} of {tensor.dtype}, outlined as "
                    f"{tuple(expected.shape)} of {expected.dtype}"
                )
            if written is not None:
                written.result()
            written = hand.submit(writing.write, name, tensor)
            advance(name)
            del tensor  # or it would still be there while the next one is made
        if written is not None:
            written.result()
    if missing:
        lost = sorted(missing, key=lambda name: (files[name], name))
        raise ParamsError(f"{listed(lost)}: outlined, but not given")


def _make_room(folder: Path, size: int, done: Collection[str], again: Collection[str]) -> None:
    """Make the folder, or see that it holds nothing but what an interruption left.

    Of that the files that are done stay, and those that are to be made again go.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = list(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: cannot be made ({error}); {remedy(folder)}") from error
    inside = [path for path in inside if path.name not in done]
    left = [path.name for path in inside if not is_temporary(path)]
    if others := sorted(name for name in left if name not in again):
        raise FileError(f"{folder}: holds {listed(others)}; give a new or an empty folder")
    for path in inside:
        path.unlink()
    if size > (free := shutil.disk_usage(folder).free):
        raise FileError(f"{folder}: {size:,} bytes are needed, {free:,} are free; make room there")


def _only_file(path: Path) -> Path:
    """The one file of weights that a path is, or has."""
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
            f"{path}: only pickled weights are there ({listed([f.name for f in pickled])}), which "
            f"can run any code; convert them where you trust them: {_conversion(path, pickled)}"
        )
    raise FileError(f"{path}: has neither {WEIGHTS} nor {INDEX} nor {ADAPTER}")


def _conversion(path: Path, pickled: list[Path]) -> str:
    """The command after which a file, or a folder with all of its shards, can be opened."""
    folder = path if path.is_dir() else path.parent
    parts = [file.name for file in pickled if file.name.startswith("pytorch_model")]
    parts = parts or [next((f.name for f in pickled if f.stem == "adapter_model"), pickled[0].name)]
    name = WEIGHTS if path.is_dir() else f"{path.stem}.safetensors"
    name = ADAPTER if parts == ["adapter_model.bin"] else name
    program = (
        "from symport.io._files import load_tensors, save_tensors; "
        f"save_tensors('{name}', {{k: t for f in {parts} for k, t in load_tensors(f).items()}})"
    )
    return f'cd {shlex.quote(str(folder))} && python -c "{program}"'


def _indexed(path: Path) -> dict[str, str]:
    """The file of each tensor, as an index says."""
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
                f"{path}: names {shown}, which is no name of a safetensors file; copy it again"
            )
    if not names:
        raise FileError(f"{path}: names no tensors; copy the index and its shards again")
    return names


def _check_index(path: Path, index: Mapping[str, str], shards: Iterable[Shard]) -> None:
    found = {shard.path.name: shard.outline for shard in shards}
    advice = "copy the index and its shards again, from one place"
    if lost := [name for name, file in index.items() if name not in found[file]]:
        raise FileError(f"{path}: {listed(lost)} not in {index[lost[0]]} as it says; {advice}")
    for file, outline in found.items():
        if extra := [name for name in outline if index.get(name) != file]:
            raise FileError(f"{path}: does not say that {file} holds {listed(extra)}; {advice}")
