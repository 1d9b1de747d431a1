"""Networks as wide as their files, and no narrower than float32, beside narrower ones in memory.

What a computation in bfloat16 is given may be rounded; what is trained and written may not. A step
below half a unit in the last place, 1/512 of a weight there, would change nothing at all.
"""

from dataclasses import dataclass

from torch import Tensor

from symport.huggingface._names import NamedCheckpoint
from symport.io import Checkpoint, TensorReader
from symport.params import Params, widened


def wide(side: NamedCheckpoint, memory: Params) -> Checkpoint:
    """A network read from its files, each tensor when it is asked for, in at least float32.

    Args:
        side: Its files; the view closes along with them.
        memory: The same network in memory, in whatever dtype. What the files lack is taken from
            there: heads that are zero, and what a model makes by itself.
    """
    known = side.tensors.readers
    return side.tensors.view(
        {n: _Wide(known[n] if n in known else _InMemory(t)) for n, t in memory.items()}
    )


@dataclass(frozen=True, eq=False)
class _Wide:
    """A tensor that is read from some place, in at least float32."""

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
    """A tensor that no file holds; what is read is a copy, as it is from a file."""

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
