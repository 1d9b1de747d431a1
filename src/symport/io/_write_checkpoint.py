"""Write the weights of a model folder while they are computed, tensor by tensor."""

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from symport.errors import FileError, ParamsError
from symport.io._checkpoint import INDEX
from symport.io._files import PathLike, write_advice, write_text
from symport.io._safetensors_shard import ShardWriter, is_temporary, open_shard
from symport.params import Params, listed

FORMAT = {"format": "pt"}  # required by transformers
_SHARD = re.compile(r".+-\d+-of-\d+\.safetensors")


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
    """Write a checkpoint while its tensors are being computed, without storing them.

    Each is written while the next one is computed, so it must not be modified until then.

    Args:
        folder: Where to write; created if absent. An existing folder must be empty.
        outline: Shapes and dtypes of all tensors, on any device.
        files: The file name of each tensor. An index is written for several files, and for one
            with a name like `model-00001-of-00001.safetensors`.
        tensors: The tensors by name, in any order; the order of the files is fastest.
        metadata: Text to store in every file.
        keep: Whether complete files remain after an interruption. Repeating the call then
            continues, and `tensors` must not yield those of complete files (`finished_files`).
        advance: Called with the name of each tensor when it is about to be written.

    Raises:
        FileError: The folder is not empty, or a file cannot be written. Files that were written
            are removed, unless `keep`.
        ParamsError: A tensor is missing, unknown, given twice, or differs from the outline.

    Example:
        >>> import torch
        >>> outline = {name: torch.zeros(2) for name in ("v", "w")}
        >>> files = {"v": "a.safetensors", "w": "b.safetensors"}
        >>> write_checkpoint(folder / "m", outline, files, ((n, torch.ones(2)) for n in outline))
        >>> sorted(path.name for path in (folder / "m").iterdir())
        ['a.safetensors', 'b.safetensors', 'model.safetensors.index.json']
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
    """The files of a checkpoint that are already complete.

    Args:
        folder: The folder of a call of `write_checkpoint` with `keep` that was interrupted; it may
            be absent.
        outline: Shapes and dtypes of all tensors, as for `write_checkpoint`.
        files: The file name of each tensor, as for `write_checkpoint`.

    Example:
        >>> import torch
        >>> from symport.io import save_tensors
        >>> save_tensors(folder / "a.safetensors", {"v": torch.ones(2)})
        >>> outline = {name: torch.zeros(2) for name in ("v", "w")}
        >>> finished_files(folder, outline, {"v": "a.safetensors", "w": "b.safetensors"})
        frozenset({'a.safetensors'})
    """
    found: set[str] = set()
    for file in set(files.values()):
        expected = {n: (t.shape, t.dtype) for n, t in outline.items() if files[n] == file}
        with suppress(FileError), open_shard(folder / file) as shard:
            if {n: (t.shape, t.dtype) for n, t in shard.outline.items()} == expected:
                found.add(file)
    return frozenset(found)


class _Writing:
    """The files of a checkpoint while they are written; each is completed by its last tensor."""

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
        """Open all files, so that a failure occurs early."""
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
        """Remove incomplete files and, unless `keep`, complete ones."""
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
    with ThreadPoolExecutor(1) as pool:  # one tensor is written while the next one is computed
        written: Future[None] | None = None
        for name, tensor in tensors:
            if name not in missing:
                raise ParamsError(f"{name}: not in the outline, or given twice")
            expected = missing.pop(name)
            if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
                raise ParamsError(
                    f"{name}: {tuple(tensor.shape)} of {tensor.dtype}, in the outline "
                    f"{tuple(expected.shape)} of {expected.dtype}"
                )
            if written is not None:
                written.result()
            written = pool.submit(writing.write, name, tensor)
            advance(name)
            del tensor  # or it would remain in memory while the next one is computed
        if written is not None:
            written.result()
    if missing:
        lost = sorted(missing, key=lambda name: (files[name], name))
        raise ParamsError(f"{listed(lost)}: in the outline, but not given")


def _make_room(folder: Path, size: int, done: Collection[str], again: Collection[str]) -> None:
    """Create the folder, or check that it contains nothing but the files of an interrupted call.

    Of those, the complete ones remain, and those that are to be written again are removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = list(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: cannot be made ({error}); {write_advice(folder)}") from error
    inside = [path for path in inside if path.name not in done]
    left = [path.name for path in inside if not is_temporary(path)]
    if others := sorted(name for name in left if name not in again):
        raise FileError(f"{folder}: contains {listed(others)}; give a new or an empty folder")
    for path in inside:
        path.unlink()
    if size > (free := shutil.disk_usage(folder).free):
        raise FileError(f"{folder}: {size:,} bytes are needed, {free:,} are free; make room there")
