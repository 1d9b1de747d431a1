"""Small symmetries of every kind, shared by the tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
import torch
from torch import Generator, Tensor

from symport.spec import PermutationSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """Patterns written by hand, with the shapes they belong to."""

    name: str
    patterns: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def spec(self) -> PermutationSpec:
        zeros = {name: torch.zeros(shape) for name, shape in self.shapes.items()}
        return PermutationSpec.parse(self.patterns, zeros, sizes=self.sizes)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        return {n: torch.randn(shape, generator=generator) for n, shape in self.shapes.items()}


MLP = Case(
    "mlp",
    {"w1": "a .", "b1": "a", "w2": "b a", "b2": "b", "w3": ". b", "b3": "."},
    {"w1": (6, 4), "b1": (6,), "w2": (5, 6), "b2": (5,), "w3": (3, 5), "b3": (3,)},
)
CONVOLUTION = Case(
    "convolution, then flatten",
    {"w1": "a . . .", "w2": "b a . .", "w3": ". (b 4)"},
    {"w1": (5, 2, 3, 3), "w2": (6, 5, 3, 3), "w3": (3, 24)},
)
CONCATENATION = Case(
    "concatenation",
    {"w1": "a .", "w2": "b a", "w3": ". (a + b)"},
    {"w1": (4, 3), "w2": (3, 4), "w3": (2, 7)},
)
ATTENTION = Case(
    "fused attention",
    {"qkv": "(h h/qk + h h/qk + h h/v) d", "out": "d (h h/v)", "embed": ". d", "head": ". d"},
    {"qkv": (24, 6), "out": (6, 8), "embed": (9, 6), "head": (4, 6)},
    {"h": 2},
)
GROUPED_QUERIES = Case(
    "grouped queries with rotary positions",
    {
        "q": "(kv kv/q 3) d",
        "k": "(kv 3) d",
        "v": "(kv kv/v) d",
        "out": "d (kv kv/q kv/v)",
        "embed": ". d",
    },
    {"q": (12, 5), "k": (6, 5), "v": (4, 5), "out": (5, 8), "embed": (7, 5)},
    {"kv": 2},
)
GROUP_NORM = Case(
    "group norm",
    {"w1": "(g g/c) .", "gain": "(g g/c)", "w2": ". (g g/c)"},
    {"w1": (6, 4), "gain": (6,), "w2": (3, 6)},
    {"g": 3},
)
EXPERTS = Case(
    "mixture of experts",
    {"router": "e d", "up": "e e/f d", "down": "e d e/f", "embed": ". d"},
    {"router": (3, 4), "up": (3, 5, 4), "down": (3, 4, 5), "embed": (6, 4)},
)
RECURRENT = Case(
    "recurrent",
    {"input": "h .", "hidden": "h h", "out": ". h"},
    {"input": (6, 3), "hidden": (6, 6), "out": (2, 6)},
)
CASES = [
    MLP,
    CONVOLUTION,
    CONCATENATION,
    ATTENTION,
    GROUPED_QUERIES,
    GROUP_NORM,
    EXPERTS,
    RECURRENT,
]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def present(value: T | None) -> T:
    """What has to be there."""
    assert value is not None
    return value
