"""Units are nested only in the axis that they are aligned with, where an axis is there twice."""

import pytest
import torch
from torch.nn import functional as F

from symport.spec import parse_pattern
from tests.symmetry.test_sweep import SAME, Free, X, said_by_the_rules
from tests.symmetry.witness import largest_change


def transposed(u):
    return u.T.flatten()


REGROUPED = {
    "reshape": (lambda t, v: [t.reshape(-1, 2) * v, t * v[:, None, None]], [(2, 5, 4), (2,)]),
    "repeat": (lambda t, u: [t.repeat(1, 2) * u.flatten(), t * u], [(2, 3), (2, 3)]),
    "tile, then a product": (
        lambda t, u: [torch.tile(t, (2,)).mT.sin().mT * (t * u).flatten()],
        [(2, 3), (2, 3)],
    ),
    "repeat_interleave": (
        lambda t, u: [t.repeat_interleave(2, 1) * transposed(u), t * u],
        [(2, 3), (2, 3)],
    ),
    "expand": (
        lambda t, u: [t[:, None].expand(2, 2, 3).reshape(2, 6) * u.flatten(), t * u],
        [(2, 3), (2, 3)],
    ),
    "every other": (
        lambda x, u, v: [x * transposed(u), x * v[:, None], u * v[:, None], x[:, ::2]],
        [(2, 6), (2, 3), (2,)],
    ),
    "im2col": (
        lambda x, u: [F.unfold(x, (1, 2)) * transposed(u)[:, None], x.sum((2, 3)) * u],
        [(2, 3, 1, 4), (2, 3)],
    ),
    "col2im": (
        lambda y, u, v: [
            F.fold(y * transposed(u)[:, None], (1, 4), (1, 2)),
            y * v[:, None, None],
            u * v[:, None],
        ],
        [(2, 6, 3), (2, 3), (2,)],
    ),
}


@pytest.mark.parametrize("name", REGROUPED)
def test_a_factor_that_changes_its_axis_nests_nothing_where_it_is_there_twice(name):
    torch.manual_seed(0)
    net = Free(*REGROUPED[name])
    assert largest_change(net, said_by_the_rules(net), X, elements=16) < SAME


def looked_up_in_itself(t):
    """Rows of a table, whose places lie along its first axis, twice, and its second."""
    found = (t.cos() @ t.mT.sin()).cumsum(1).argmin(1)
    return [t[torch.cat([found, found])]]


def test_rows_with_an_axis_that_the_table_has_too_nest_nothing_in_what_they_belong_to():
    """The table's second axis is there twice: which one belongs to the first is not known."""
    torch.manual_seed(0)
    net = Free(looked_up_in_itself, [(3, 3, 4)])
    assert largest_change(net, said_by_the_rules(net), X, elements=16) < SAME


def test_units_stay_nested_in_what_they_lie_beside():
    """Both axes of a matrix are heads times units: each head has units of its own."""
    torch.manual_seed(0)
    net = Free(lambda w, b: [b.view(2, 3).amax(1), w * b, w.mT * b], [(6, 6), (6,)])
    spec = said_by_the_rules(net)
    heads, units = sorted(spec.groups)
    assert units.startswith(f"{heads}/")
    assert [spec.groups[name].size for name in (heads, units)] == [2, 3]
    assert spec.patterns["given.0"] == parse_pattern(f"({heads} {units}) ({heads} {units})")
    assert largest_change(net, spec, X, elements=16) < SAME
