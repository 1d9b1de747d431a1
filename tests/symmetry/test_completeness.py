"""No more and no less: compare what is found with all 720 permutations of six units.

A permutation of the entries that an operation receives is a symmetry if some permutation of the
entries that it returns undoes it. For each operation the number of such permutations, found by
trying them all, must be the number that the discovered groups have.
"""

import math
from itertools import permutations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symport.spec import groups_in
from symport.symmetry import discover

UNITS = 6
ALL = torch.tensor(list(permutations(range(UNITS))))
FIXED = torch.tensor([0.3, -1.2, 0.7, 2.0, -0.4, 1.1])


class Sandwich(nn.Module):
    """The operation between a linear layer and whatever its result is mixed by."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.first = nn.Linear(3, UNITS, bias=False)
        size = operation(torch.zeros(1, UNITS)).flatten(1).shape[1]
        self.last = nn.Linear(size, 2, bias=False)

    def forward(self, x):
        return self.last(self.operation(self.first(x)).flatten(1))


def count_by_trying(operation):
    """How many permutations of the input only permute the output, on generic inputs."""
    x = torch.randn(4, UNITS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = operation(x).flatten(1)
    moved = operation(x[:, ALL].transpose(0, 1).flatten(0, 1)).flatten(1)
    moved = moved.unflatten(0, (len(ALL), 4))
    return sum(same_columns(result, other) for other in moved)


def same_columns(a, b):
    """Whether two matrices have the same columns in some order."""
    key = torch.randn(4, dtype=a.dtype, generator=torch.Generator().manual_seed(1))
    return torch.allclose((key @ a).sort()[0], (key @ b).sort()[0], atol=1e-9)


def count_found(operation):
    """The number of elements of the groups that move the first layer's rows."""
    spec = discover(Sandwich(operation), torch.randn(2, 3), strict=True)
    names = set(groups_in(spec.patterns["first.weight"][0]))
    free = [name for name in names if spec.groups[name].kind == "permutation"]
    return math.prod(
        math.factorial(spec.groups[name].size) ** math.prod(spec.shape_of(name)[:-1])
        for name in free
    )


OPERATIONS = {
    "relu": F.relu,
    "scale and shift by numbers": lambda x: 2 * x + 1,
    "softmax": lambda x: x.softmax(-1),
    "layer norm": lambda x: F.layer_norm(x, (UNITS,)),
    "norm": lambda x: F.normalize(x, dim=-1),
    "group norm of 2": lambda x: F.group_norm(x, 2),
    "group norm of 3": lambda x: F.group_norm(x, 3),
    "gate": lambda x: F.glu(x, -1),
    "gate of halves the other way round": lambda x: x[:, :3] * torch.tanh(x[:, 3:]),
    "halves added": lambda x: x[:, :3] + x[:, 3:] ** 2,
    "uneven parts": lambda x: torch.cat([x[:, :2].softmax(-1), x[:, 2:].tanh()], -1),
    "reshape and back": lambda x: x.view(-1, 2, 3).relu().view(-1, 6),
    "softmax of rows": lambda x: x.view(-1, 2, 3).softmax(-1),
    "softmax of columns": lambda x: x.view(-1, 2, 3).softmax(1),
    "centred by columns": lambda x: x.view(-1, 3, 2) - x.view(-1, 3, 2).mean(1, keepdim=True),
    "sum of rows": lambda x: x.view(-1, 2, 3).sum(-1),
    "maximum of rows": lambda x: x.view(-1, 3, 2).amax(-1),
    "sum of all": lambda x: x.sum(-1, keepdim=True),
    "times a constant": lambda x: x * FIXED.to(x.dtype),
    "copies": lambda x: x.repeat(1, 2),
    "products with each other": lambda x: torch.einsum("bi,bj->bij", x, x),
    "product of a matrix with itself": lambda x: x.view(-1, 2, 3) @ x.view(-1, 2, 3).mT,
    "pooled by pairs": lambda x: x.view(-1, 3, 2).mean(-1),
    "padded": lambda x: F.pad(x, (1, 2)),
    "expanded by rows": lambda x: x.view(-1, 2, 3, 1).expand(-1, -1, -1, 2) + 1,
    "square root of a sum of squares": lambda x: x.view(-1, 2, 3).norm(dim=-1),
}

# Here the finder may miss some: what it finds is a symmetry, but not all of it, because units come
# out in an arrangement that a pattern cannot say, or parts may be exchanged for each other.
INCOMPLETE = {
    "halves split and joined": lambda x: torch.cat(x.chunk(2, -1), -1) * 2,
    "product of halves, which commutes": lambda x: x[:, :3] * x[:, 3:],
    "read backwards": lambda x: x.flip(-1),
    "shifted cyclically": lambda x: x.roll(1, -1),
    "sorted": lambda x: x.sort(-1)[0],
    "transposed": lambda x: x.view(-1, 2, 3).transpose(1, 2).flatten(1).tanh(),
    "pooled along a line": lambda x: F.avg_pool1d(x[:, None], 2),
    "summed in order": lambda x: x.cumsum(-1),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_exactly_the_permutations_that_leave_the_function_unchanged_are_found(operation):
    assert count_found(operation) == count_by_trying(operation)


@pytest.mark.parametrize("operation", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_never_more_than_the_true_permutations_are_found(operation):
    assert count_found(operation) <= count_by_trying(operation)
