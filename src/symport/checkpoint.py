"""The weights of a model folder: one or many safetensors files, read and written piece by piece."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from symport.files import PathLike
from symport.params import Params


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint, each read from disk when asked for.

    Open one with `open_checkpoint`, and close it by leaving the `with` block.

    Attributes:
        path: The file or folder that was opened.
        files: The name of the file that holds each tensor, in the order of the files.
        metadata: Text kept in the first file.
    """

    path: Path
    files: Mapping[str, str]
    metadata: Mapping[str, str]

    def __getitem__(self, name: str) -> Tensor:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of a tensor along its first axis; only they are read."""
        raise NotImplementedError

    def outline(self) -> dict[str, Tensor]:
        """Shapes and dtypes without contents: tensors on the `meta` device."""
        raise NotImplementedError


@contextmanager
def open_checkpoint(path: PathLike) -> Generator[Checkpoint]:
    """Open a checkpoint to read single tensors from it.

    Args:
        path: A `.safetensors` file; or a folder with `model.safetensors`, with
            `model.safetensors.index.json` and its shards, or with `adapter_model.safetensors`.

    Raises:
        FileError: Nothing of that kind is there, or a file is missing, cut short or foreign, or
            the index does not agree with its files.
    """
    raise NotImplementedError
    yield


def write_checkpoint(
    folder: PathLike,
    outline: Params,
    files: Mapping[str, str],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint while its tensors are being made; none is kept.

    Args:
        folder: Where to write; made if absent. If it is there it must be empty.
        outline: Shapes and dtypes of all tensors, on any device.
        files: The file name of each tensor. Several files get an index.
        tensors: The tensors by name, in any order; that of the files is fastest.
        metadata: Text to keep in every file.

    Raises:
        FileError: The folder is not empty, or a file cannot be written. Nothing that looks
            finished is left behind.
        ParamsError: A tensor is missing, unknown, given twice, or not as outlined.
    """
    raise NotImplementedError
