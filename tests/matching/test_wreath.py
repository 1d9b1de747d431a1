from itertools import permutations, product
from typing import Literal

import pytest
import torch

from symport.matching import assign_tree, facet_index
from symport.spec import Group, Permutation, PermutationSpec

PARENT, CHILD, SIBLING = 3, 3, 2


Kind = Literal["permutation", "fixed"]


def spec_of(*children: str, kind: Kind = "permutation") -> PermutationSpec:
    sizes = {"h/u": CHILD, "h/v": SIBLING}
    groups = {"h": Group(PARENT, kind), **{name: Group(sizes[name]) for name in children}}
    return PermutationSpec({}, groups)


def gain(spec, *facet, seed=0):
    n = 1
    for name in facet:
        n *= spec.groups[name].size
    return torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def every_element(spec):
    """All elements of the wreath product, one by one."""
    children = [name for name in spec.groups if name != "h"]
    tops = [(0, 1, 2)] if spec.groups["h"].kind == "fixed" else permutations(range(PARENT))
    rows = [
        list(product(permutations(range(spec.groups[name].size)), repeat=PARENT))
        for name in children
    ]
    for top, *inner in product(tops, *rows):
        yield {"h": torch.tensor(top), **dict(zip(children, map(torch.tensor, inner), strict=True))}


def total(similarities, indices):
    return sum(
        float(matrix.gather(1, facet_index(facet, indices)[:, None]).sum())
        for facet, matrix in similarities.items()
    )


@pytest.mark.parametrize("kind", ["permutation", "fixed"])
@pytest.mark.parametrize("seed", range(3))
def test_units_in_heads_are_assigned_as_well_as_by_brute_force(kind, seed):
    spec = spec_of("h/u", kind=kind)
    similarities = {
        ("h",): gain(spec, "h", seed=seed),
        ("h", "h/u"): gain(spec, "h", "h/u", seed=seed + 10),
    }
    start = Permutation.identity(spec).indices
    found = assign_tree(spec, "h", similarities, start)
    best = max(total(similarities, indices) for indices in every_element(spec))
    assert found.value == pytest.approx(best)
    assert total(similarities, found.indices) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(3))
def test_two_kinds_of_inner_units_are_assigned_as_well_as_by_brute_force(seed):
    spec = spec_of("h/u", "h/v")
    similarities = {
        ("h", "h/u"): gain(spec, "h", "h/u", seed=seed),
        ("h", "h/v"): gain(spec, "h", "h/v", seed=seed + 10),
    }
    found = assign_tree(spec, "h", similarities, Permutation.identity(spec).indices)
    best = max(total(similarities, indices) for indices in every_element(spec))
    assert found.value == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_coupled_inner_units_never_end_below_the_start(seed):
    spec = spec_of("h/u", "h/v")
    similarities = {
        ("h", "h/u"): gain(spec, "h", "h/u", seed=seed),
        ("h", "h/v"): gain(spec, "h", "h/v", seed=seed + 10),
        ("h", "h/u", "h/v"): gain(spec, "h", "h/u", "h/v", seed=seed + 20),
    }
    start = Permutation.identity(spec).indices
    found = assign_tree(spec, "h", similarities, start)
    assert found.value == pytest.approx(total(similarities, found.indices))
    best = max(total(similarities, indices) for indices in every_element(spec))
    assert total(similarities, start) <= found.value <= best + 1e-9


def test_three_levels_are_assigned_as_well_as_by_brute_force():
    groups = {"a": Group(2), "a/b": Group(2), "a/b/c": Group(2)}
    spec = PermutationSpec({}, groups)
    similarities = {
        facet: gain(spec, *facet, seed=len(facet))
        for facet in [("a", "a/b"), ("a", "a/b", "a/b/c")]
    }
    found = assign_tree(spec, "a", similarities, Permutation.identity(spec).indices)
    two = list(permutations(range(2)))
    best = max(
        total(
            similarities,
            {
                "a": torch.tensor(a),
                "a/b": torch.tensor(b),
                "a/b/c": torch.tensor(c).reshape(2, 2, 2),
            },
        )
        for a in two
        for b in product(two, repeat=2)
        for c in product(two, repeat=4)
    )
    assert found.value == pytest.approx(best)


def test_ties_keep_the_start():
    spec = spec_of("h/u")
    start = Permutation.random(spec, torch.Generator().manual_seed(3)).indices
    zeros = {("h", "h/u"): torch.zeros(9, 9, dtype=torch.float64)}
    found = assign_tree(spec, "h", zeros, start)
    assert all(torch.equal(found.indices[name], start[name]) for name in start)


def test_a_facet_index_counts_units_row_major():
    indices = {"h": torch.tensor([1, 0]), "h/u": torch.tensor([[2, 1, 0], [0, 1, 2]])}
    assert facet_index(("h", "h/u"), indices).tolist() == [5, 4, 3, 0, 1, 2]
