"""Networks read from their files in at least float32, beside copies in memory in narrower dtypes.

The inputs of a computation in bfloat16 may be rounded, but not the weights that are trained and
written: a step below half a unit in the last place, 1/512 of a weight, would be lost.
"""

from dataclasses import dataclass

from torch import Tensor

from symport.huggingface._names import NamedCheckpoint
from symport.io import Checkpoint, TensorReader
from symport.params import Params, widened


def wide(side: NamedCheckpoint, memory: Params) -> Checkpoint:
    """A network read from its files, each tensor on access, in at least float32.

    Args:
        side: Its files; the view is closed with them.
        memory: The same network in memory, in any dtype, from which tensors are taken that the
            files lack: heads that are zero, and buffers that a model computes.

    Example:
        >>> from symport.huggingface import find_family, find_folders, open_models
        >>> folders = find_folders(str(gpt2), str(gpt2), str(gpt2))
        >>> with open_models(folders, find_family(folders)) as files:
        ...     len(wide(files.new, files.new.tensors)) == len(files.new.tensors)
        True
    """
    known = side.tensors.readers
    return side.tensors.view(
        {n: _Wide(known[n] if n in known else _InMemory(t)) for n, t in memory.items()}
    )


@dataclass(frozen=True, eq=False)
class _Wide:
    """A tensor that is read in at least float32."""

    reader: TensorReader

    @property
    def like(self) -> Tensor:
        return widened(self.reader.like)

    @property
    def file(self) -> str:
        return self.reader.file

    def rows(self, start: int = 0, stop: int | None = None) -> Tensor:
        return widened(self.reader.rows(start, stop))

    def prefetch(self) -> None:
        self.reader.prefetch()


@dataclass(frozen=True, eq=False)
class _InMemory:
    """A tensor in memory that is in no file; reading returns a copy, as reading a file does."""

    tensor: Tensor

    @property
    def like(self) -> Tensor:
        return self.tensor.to("meta")

    @property
    def file(self) -> str:
        return ""

    def rows(self, start: int = 0, stop: int | None = None) -> Tensor:
        part = self.tensor[start:stop] if self.tensor.ndim else self.tensor
        return part.detach().cpu().clone()

    def prefetch(self) -> None:
        pass
