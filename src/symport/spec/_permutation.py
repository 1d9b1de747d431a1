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
    """

    indices: Mapping[str, Tensor]

    @classmethod
    def identity(cls, spec: PermutationSpec) -> "Permutation":
        """The permutation that moves nothing."""
        return cls({name: _rows(spec.shape_of(name)) for name in spec.groups})

    @classmethod
    def random(cls, spec: PermutationSpec, generator: Generator) -> "Permutation":
        """A uniformly random element of the whole group."""

        def draw(name: str) -> Tensor:
            shape = spec.shape_of(name)
            if spec.groups[name].kind == "fixed":
                return _rows(shape)
            count = math.prod(shape[:-1])
            rows = [torch.randperm(shape[-1], generator=generator) for _ in range(count)]
            return torch.stack(rows).reshape(shape)

        return cls({name: draw(name) for name in spec.groups})

    def check(self, spec: PermutationSpec) -> None:
        """Raise SpecError unless this permutes exactly the groups of `spec`."""
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
        """The share of units that change place, in [0, 1]."""
        total = sum(index.numel() for index in self.indices.values())
        same = sum(int((i == _rows(i.shape)).sum()) for i in self.indices.values())
        return 1 - same / total if total else 0.0

    def equal(self, other: "Permutation") -> bool:
        """Whether both permute every group alike."""
        return self.indices.keys() == other.indices.keys() and all(
            torch.equal(index, other.indices[name]) for name, index in self.indices.items()
        )


def _rows(shape: Iterable[int]) -> Tensor:
    *_, size = sizes = tuple(shape)
    return torch.arange(size).expand(sizes).contiguous()
