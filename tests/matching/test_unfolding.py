import math

import pytest
import torch
from cases import (
    ATTENTION,
    CONCATENATION,
    CONVOLUTION,
    EXPERTS,
    GROUPED_QUERIES,
    MLP,
    RECURRENT,
    every_case,
    seeded,
)

from symport.matching import cut, facet_index
from symport.spec import Permutation, permute


def parts_of(case, name):
    return cut(name, case.shapes[name], case.spec)


@every_case
def test_the_parts_of_a_tensor_hold_each_element_once(case):
    for name, shape in case.shapes.items():
        numbered = torch.arange(math.prod(shape)).reshape(shape)
        laid_out = [part.lay_out(numbered).flatten() for part in cut(name, shape, case.spec)]
        assert torch.equal(torch.cat(laid_out).sort().values, numbered.flatten())


@every_case
def test_permuting_a_tensor_permutes_the_slots_of_its_parts(case):
    permutation = Permutation.random(case.spec, seeded(1))
    params = case.draw(seeded(2))
    moved = permute(params, case.spec, permutation)
    for name, shape in case.shapes.items():
        for part in cut(name, shape, case.spec):
            expected = part.lay_out(params[name])
            for k, slot in enumerate(part.slots):
                index = facet_index(slot.facet, permutation.indices)
                expected = expected.index_select(k + 1, index)
            assert torch.equal(part.lay_out(moved[name]), expected)


@every_case
def test_slots_say_which_groups_run_over_them(case):
    for name, shape in case.shapes.items():
        for part in cut(name, shape, case.spec):
            assert part.name == name
            for slot in part.slots:
                assert slot.size == math.prod(case.spec.sizes[group] for group in slot.facet)
                assert {group.split("/")[0] for group in slot.facet} == {slot.tree}


@pytest.mark.parametrize(
    ("case", "name", "facets"),
    [
        (MLP, "w1", [("a",)]),
        (MLP, "w2", [("b",), ("a",)]),
        (MLP, "b3", []),
        (CONVOLUTION, "w2", [("b",), ("a",)]),
        (CONVOLUTION, "w3", [("b",)]),
        (RECURRENT, "hidden", [("h",), ("h",)]),
        (GROUPED_QUERIES, "out", [("d",), ("kv", "kv/q", "kv/v")]),
        (GROUPED_QUERIES, "q", [("kv", "kv/q"), ("d",)]),
        (EXPERTS, "up", [("e", "e/f"), ("d",)]),
        (EXPERTS, "down", [("e", "e/f"), ("d",)]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_slots_of_a_tensor_are_as_written_by_hand(case, name, facets):
    (part,) = parts_of(case, name)
    assert sorted(slot.facet for slot in part.slots) == sorted(facets)


def test_a_sum_is_cut_into_its_terms():
    first, second = parts_of(CONCATENATION, "w3")
    assert [part.slots[0].facet for part in (first, second)] == [("a",), ("b",)]
    fused = parts_of(ATTENTION, "qkv")
    assert [part.slots[0].facet for part in fused] == [("h", "h/qk"), ("h", "h/qk"), ("h", "h/v")]


def test_a_part_comes_with_its_slots_last():
    tensor = torch.arange(5 * 6 * 3 * 3).reshape(6, 5, 3, 3)
    (part,) = parts_of(CONVOLUTION, "w2")
    laid_out = part.lay_out(tensor)
    assert laid_out.shape == (9, *(slot.size for slot in part.slots))
    for pixel in range(9):
        assert torch.equal(laid_out[pixel], tensor[:, :, pixel // 3, pixel % 3])
