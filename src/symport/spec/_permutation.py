"""A permutation of the units of every group of a spec."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from symport.errors import SpecError
from symport.params import listed
from symport.spec._spec import PermutationSpec


@dataclass(frozen=True, eq=False)
class Permutation:
    """A permutation of every group: position i of the result holds unit `indices[g][i]`.

    Attributes:
        indices: One int64 tensor for each group, of shape `spec.shape_of(group)`: a nested
            group has a row for each unit of its parents (counted in the result).

    Example:
        >>> turn = Permutation({"h": torch.tensor([1, 2, 0])})
        >>> torch.tensor([10, 20, 30])[turn.indices["h"]]
        tensor([20, 30, 10])
    """

    indices: Mapping[str, Tensor]

    @classmethod
    def identity(cls, spec: PermutationSpec) -> "Permutation":
        """The permutation that moves nothing.

        Example:
            >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 3})
            >>> Permutation.identity(spec).indices
            {'h': tensor([0, 1, 2])}
        """
        return cls({name: _rows(spec.shape_of(name)) for name in spec.groups})

    @classmethod
    def random(cls, spec: PermutationSpec, generator: Generator) -> "Permutation":
        """A uniformly random permutation of every group that is not fixed.

        Example:
            >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 3})
            >>> Permutation.random(spec, Generator().manual_seed(0)).indices["h"].sort().values
            tensor([0, 1, 2])
        """

        def draw(name: str) -> Tensor:
            shape = spec.shape_of(name)
            if spec.groups[name].kind == "fixed":
                return _rows(shape)
            count = math.prod(shape[:-1])
            rows = [torch.randperm(shape[-1], generator=generator) for _ in range(count)]
            return torch.stack(rows).reshape(shape)

        return cls({name: draw(name) for name in spec.groups})

    def check(self, spec: PermutationSpec) -> None:
        """Check that this permutes exactly the groups of `spec`.

        Raises:
            SpecError: A group is missing or unknown; its indices are not int64 on the CPU, not of
                the shape `spec.shape_of(group)`, or no permutation; or a fixed group moves.

        Example:
            >>> spec = PermutationSpec.parse({"w": "h"}, sizes={"h": 2})
            >>> Permutation({"h": torch.tensor([0, 0])}).check(spec)
            Traceback (most recent call last):
            symport.errors.SpecError: group h: not a permutation of shape (2,)
        """
        if set(self.indices) != set(spec.groups):
            odd = sorted(set(self.indices) ^ set(spec.groups))
            raise SpecError(f"permutation and spec differ in the groups {listed(odd)}")
        for name, index in self.indices.items():
            shape = spec.shape_of(name)
            if (index.dtype, index.device.type) != (torch.int64, "cpu"):
                raise SpecError(f"group {name}: {index.dtype} on {index.device}, not int64 on cpu")
            if tuple(index.shape) != shape or not torch.equal(index.sort(-1).values, _rows(shape)):
                raise SpecError(f"group {name}: not a permutation of shape {shape}")
            if spec.groups[name].kind == "fixed" and not torch.equal(index, _rows(shape)):
                raise SpecError(f"group {name} is fixed, but is permuted")

    def moved(self) -> float:
        """The fraction of units that change their position, in [0, 1].

        Example:
            >>> Permutation({"a": torch.tensor([1, 0]), "b": torch.tensor([0, 1])}).moved()
            0.5
        """
        total = sum(index.numel() for index in self.indices.values())
        same = sum(int((i == _rows(i.shape)).sum()) for i in self.indices.values())
        return 1 - same / total if total else 0.0

    def equal(self, other: "Permutation") -> bool:
        """Whether both have the same groups with the same indices.

        Example:
            >>> turn = Permutation({"h": torch.tensor([1, 2, 0])})
            >>> turn.equal(Permutation({"h": torch.tensor([1, 0, 2])}))
            False
        """
        return self.indices.keys() == other.indices.keys() and all(
            torch.equal(index, other.indices[name]) for name, index in self.indices.items()
        )


def _rows(shape: Iterable[int]) -> Tensor:
    *_, size = sizes = tuple(shape)
    return torch.arange(size).expand(sizes).contiguous()
