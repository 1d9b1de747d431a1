"""Fixed groups keep their order; all others move as before."""

import pytest
import torch
from cases import ATTENTION, CONCATENATION, every_case, seeded

from symport.errors import SpecError
from symport.spec import Permutation, PermutationSpec, fix, permute, show_pattern


def texts(spec: PermutationSpec) -> dict[str, str]:
    return {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}


def test_an_outermost_group_leaves_the_spec_with_all_that_is_nested_in_it():
    spec = fix(ATTENTION.spec, ["h"], "given")
    assert set(spec.groups) == {"d"}
    assert texts(spec) == {"qkv": ". d", "out": "d .", "embed": ". d", "head": ". d"}


def test_a_nested_group_remains_and_is_fixed():
    spec = fix(ATTENTION.spec, ["d", "h/v"], "given")
    kinds = {name: group.kind for name, group in spec.groups.items()}
    assert kinds == {"h": "permutation", "h/qk": "permutation", "h/v": "fixed"}
    assert texts(spec)["out"] == ". (h h/v)"


def test_what_is_nested_in_a_nested_group_is_fixed_with_it():
    spec = PermutationSpec.parse({"w": "(a a/b a/b/c)"}, sizes={"a": 2, "a/b": 2, "a/b/c": 2})
    kinds = {name: group.kind for name, group in fix(spec, ["a/b"], "given").groups.items()}
    assert kinds == {"a": "permutation", "a/b": "fixed", "a/b/c": "fixed"}


def test_part_of_a_sum_keeps_its_length():
    assert texts(fix(CONCATENATION.spec, ["a"], "given"))["w3"] == ". (4 + b)"


def test_the_reason_is_recorded_for_each_axis_after_those_known():
    spec = fix(fix(CONCATENATION.spec, ["a"], "first"), ["b"], "second")
    assert spec.reasons == {
        "w1": {0: "first"},
        "w2": {1: "first", 0: "second"},
        "w3": {1: "first; second"},
    }


@every_case
def test_a_permutation_of_what_is_left_is_one_that_moves_nothing_fixed(case):
    roots = list(case.spec.trees())
    left = fix(case.spec, roots[:1], "given")
    permutation = Permutation.random(left, seeded(3))
    identity = Permutation.identity(case.spec).indices
    whole = Permutation({**identity, **permutation.indices})
    params = case.draw(seeded(4))
    moved, expected = permute(params, left, permutation), permute(params, case.spec, whole)
    assert all(torch.equal(moved[name], expected[name]) for name in params)


def test_no_groups_leave_the_spec_as_it_is():
    assert fix(ATTENTION.spec, [], "given") == ATTENTION.spec


def test_a_group_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="there is no group width, only d, h, h/qk, h/v"):
        fix(ATTENTION.spec, ["width"], "given")
