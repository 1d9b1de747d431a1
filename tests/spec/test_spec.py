import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from cases import ATTENTION, Case, every_case, seeded
from torch import Tensor

from symport.errors import FileError, SpecError
from symport.spec import Group, Permutation, PermutationSpec, parse_pattern


def zeros(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


# Sizes


@pytest.mark.parametrize(
    ("patterns", "shapes", "given", "sizes"),
    [
        ({"w": "h ."}, {"w": (3, 4)}, {}, {"h": 3}),
        ({"w": ". (h 16)"}, {"w": (2, 48)}, {}, {"h": 3}),
        ({"w": "(a + b)", "v": "a"}, {"w": (7,), "v": (3,)}, {}, {"a": 3, "b": 4}),
        ({"w": "(a + 5)"}, {"w": (7,)}, {}, {"a": 2}),
        ({"w": "(a + a)"}, {"w": (8,)}, {}, {"a": 4}),
        ({"w": "(a a)"}, {"w": (49,)}, {}, {"a": 7}),
        ({"w": "(a b + a b)"}, {"w": (24,)}, {"a": 3}, {"a": 3, "b": 4}),
        ({"w": "(h h/u) ."}, {"w": (12, 2)}, {"h": 4}, {"h": 4, "h/u": 3}),
        ({"w": "((a + b) 4)", "v": "b"}, {"w": (20,), "v": (3,)}, {}, {"a": 2, "b": 3}),
        ({"w": "e e/f d"}, {"w": (2, 3, 4)}, {}, {"e": 2, "e/f": 3, "d": 4}),
        # From the last to the first: c gives b, b gives a.
        ({"u": "(a b)", "v": "(b c)", "w": "c"}, {"u": (6,), "v": (15,), "w": (5,)}, {},
         {"a": 2, "b": 3, "c": 5}),
        ({"scalar": ""}, {"scalar": ()}, {}, {}),
    ],
)  # fmt: skip
def test_sizes_are_read_from_the_shapes(patterns, shapes, given, sizes):
    spec = PermutationSpec.parse(patterns, zeros(**shapes), sizes=given)
    assert spec.sizes == sizes


@pytest.mark.parametrize(
    ("patterns", "shapes", "given", "message"),
    [
        ({"w": "(a b)"}, {"w": (6,)}, {}, r"the sizes of \['a', 'b'\] are not determined; pass"),
        ({"w": "(a 4)"}, {"w": (6,)}, {}, r"the sizes of \['a'\] are not determined"),
        ({"w": "(a + 7)"}, {"w": (6,)}, {}, r"the sizes of \['a'\] are not determined"),
        ({"w": "(a a)"}, {"w": (6,)}, {}, r"the sizes of \['a'\] are not determined"),
        ({"w": "a 3"}, {"w": (6, 4)}, {}, "w: axis 1 has length 4, but '3' has length 3"),
        ({"w": "a"}, {"w": (6,)}, {"a": 5}, "w: axis 0 has length 6, but 'a' has length 5"),
        ({"w": "a", "v": "a"}, {"w": (6,), "v": (5,)}, {}, "axis 0 has length ., but"),
        ({"w": "a ."}, {"w": (6,)}, {}, r"'a \.' has 2 axes, the tensor has shape \(6,\)"),
        ({"w": "(a b)"}, {"w": (6,)}, {"a": 0}, "the size of a must be at least 1"),
        ({"w": "a"}, {"w": (0,)}, {}, "group a: size 0, kind 'permutation' not allowed"),
        ({"w": "a"}, {"w": (6,)}, {"b": 2}, "sizes are given for b, which no pattern names"),
        ({"w": "a", "v": "a"}, {"w": (6,)}, {}, "patterns are given for v, which do not exist"),
        ({"w": "a"}, {"w": (6,), "v": (6,)}, {}, "no pattern is given for v"),
        ({"w": "(a"}, {"w": (6,)}, {}, "a bracket is not closed"),
    ],
)  # fmt: skip
def test_patterns_that_do_not_fit_are_refused(patterns, shapes, given, message: str):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.parse(patterns, zeros(**shapes), sizes=given)


def test_buffers_must_be_tensors_of_the_spec():
    spec = PermutationSpec.parse({"w": "a", "mean": "a"}, sizes={"a": 3}, buffers=["mean"])
    assert spec.buffers == {"mean"}
    with pytest.raises(SpecError, match="the buffers variance have no pattern"):
        PermutationSpec.parse({"w": "a"}, sizes={"a": 3}, buffers=["variance"])


# Nesting


@pytest.mark.parametrize(
    "text",
    [
        "(h h/u)",
        "(h/u h)",
        "h h/u",
        "h/u h",
        "(h h/u + h h/u)",
        "h (h/u + 2 + h/u)",
        "(2 h) (h/u 3)",
        "h h/u h/u/w",
        "((h + h) h/u)",
    ],
)
def test_a_nested_group_stands_beside_its_parents(text: str):
    groups = {name: Group(2) for name in ("h", "h/u", "h/u/w")}
    assert PermutationSpec({"x": parse_pattern(text)}, groups).trees() == {"h": tuple(groups)}


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        ("h/u", "h"),
        ("(h + h/u)", "h"),
        ("(h h/u + h/u)", "h"),
        ("(h + 3) h/u", "h"),
        ("h h/u/w", "h/u"),
        ("((h + 2) h/u)", "h"),
        ("h (h h/u + h/u)", "h"),
    ],
)
def test_a_nested_group_away_from_its_parents_is_refused(text: str, parent: str):
    groups = {name: Group(2) for name in ("h", "h/u", "h/u/w")}
    with pytest.raises(SpecError, match=f"x: group h/u.* is nested in {parent}, which does not st"):
        PermutationSpec({"x": parse_pattern(text)}, groups)


def test_groups_are_complete():
    with pytest.raises(SpecError, match=r"w: the pattern names unknown groups \['a', 'b'\]"):
        PermutationSpec({"w": parse_pattern("b (a c)")}, {"c": Group(2)})
    with pytest.raises(SpecError, match="group a/b is nested in a, which is no group"):
        PermutationSpec({}, {"a/b": Group(2)})
    with pytest.raises(SpecError, match="group a: size 2, kind 'sign' not allowed"):
        PermutationSpec({}, {"a": Group(2, "sign")})  # pyright: ignore[reportArgumentType]  # refused


def test_trees_go_from_parents_to_children():
    groups = {name: Group(2) for name in ("b/x/y", "a", "b/x", "b", "b/w")}
    assert PermutationSpec({}, groups).trees() == {"a": ("a",), "b": ("b", "b/x", "b/w", "b/x/y")}


def test_the_indices_of_a_nested_group_have_a_row_for_each_unit_above():
    spec = PermutationSpec({}, {"a": Group(2), "a/b": Group(3), "a/b/c": Group(5)})
    assert [spec.shape_of(name) for name in spec.groups] == [(2,), (2, 3), (2, 3, 5)]


# Checking tensors


def test_a_part_of_the_network_may_be_checked_alone():
    spec = PermutationSpec.parse({"w": "a .", "b": "a"}, sizes={"a": 3})
    spec.check(zeros(b=(3,)))
    with pytest.raises(SpecError, match="the spec covers w, which the parameters lack"):
        spec.check(zeros(b=(3,)), complete=True)
    with pytest.raises(SpecError, match="the spec has no pattern for c, d"):
        spec.check(zeros(b=(3,), c=(3,), d=(3,)))
    with pytest.raises(SpecError, match="b: axis 0 has length 4, but 'a' has length 3"):
        spec.check(zeros(b=(4,)))


# Text and files


def rich_spec() -> PermutationSpec:
    return PermutationSpec(
        {"w": parse_pattern("(h h/u 2) ."), "mean": parse_pattern("(h h/u 2)"), "n": ()},
        {"h": Group(3, "fixed"), "h/u": Group(4)},
        frozenset({"mean", "n"}),
        {"w": {1: "the inputs stay"}},
        {"h": "add (in block)"},
    )


@every_case
def test_a_spec_survives_json(case: Case):
    assert PermutationSpec.from_json(case.spec.to_json()) == case.spec


def test_everything_in_a_spec_survives_a_file(tmp_path: Path):
    rich_spec().save(tmp_path / "spec.json")
    assert PermutationSpec.load(tmp_path / "spec.json") == rich_spec()


def test_the_json_is_as_documented():
    assert json.loads(rich_spec().to_json()) == {
        "format": "symport-spec-1",
        "groups": {
            "h": {"size": 3, "kind": "fixed"},
            "h/u": {"size": 4, "kind": "permutation"},
        },
        "patterns": {"w": "(h h/u 2) .", "mean": "(h h/u 2)", "n": ""},
        "buffers": ["mean", "n"],
        "reasons": {"w": {"1": "the inputs stay"}},
        "ties": {"h": "add (in block)"},
    }


def test_a_spec_prints_as_a_table():
    assert str(rich_spec()).splitlines() == [
        "w     (h h/u 2) .",
        "mean  (h h/u 2)",
        "n     ",
        "groups: h 3 (fixed), h/u 4",
    ]
    assert str(PermutationSpec({}, {})) == "groups: none"


def broken(**changes: object) -> str:
    return json.dumps({**json.loads(rich_spec().to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a permutation spec: JSONDecodeError"),
        ("[]", "not a permutation spec: TypeError"),
        ("{}", "not a permutation spec: KeyError.'format'"),
        (broken(format="symport-spec-9"), "format 'symport-spec-9' is not 'symport-spec-1'"),
        (broken(groups={"h": {"size": "x", "kind": "fixed"}}), "not a permutation spec: ValueErr"),
        (broken(groups={"h": 3}), "not a permutation spec: TypeError"),
        (broken(groups={}), r"w: the pattern names unknown groups \['h', 'h/u'\]"),
        (broken(patterns={"w": "(h"}), "a bracket is not closed"),
        (broken(patterns={"w": 3}), "not a permutation spec: AttributeError"),
        (broken(reasons={"w": {"one": "x"}}), "not a permutation spec: ValueError"),
        (broken(buffers=None), "not a permutation spec: TypeError"),
    ],
)
def test_text_that_is_no_spec_is_refused(text: str, message: str, tmp_path: Path):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.from_json(text)
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(SpecError, match=rf"odd\.json: .*{message}"):
        PermutationSpec.load(tmp_path / "odd.json")


def test_a_file_that_is_no_text_or_is_missing_is_named(tmp_path: Path):
    (tmp_path / "spec.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"spec\.json: .*decode"):
        PermutationSpec.load(tmp_path / "spec.json")
    with pytest.raises(SpecError, match=r"missing\.json: .*No such file"):
        PermutationSpec.load(tmp_path / "missing.json")
    with pytest.raises(FileError, match="create the folder"):
        rich_spec().save(tmp_path / "missing" / "spec.json")


# Permutations


@every_case
def test_identity_and_random_permutations_belong_to_the_spec(case: Case):
    spec = case.spec
    identity = Permutation.identity(spec)
    identity.check(spec)
    assert identity.moved() == 0
    for seed in range(5):
        Permutation.random(spec, seeded(seed)).check(spec)


def test_random_elements_are_uniform_over_the_whole_group():
    # S_2 wr S_2 has 2² · 2 = 8 elements.
    spec = PermutationSpec({}, {"h": Group(2), "h/u": Group(2)})
    generator = seeded(0)
    draws = [Permutation.random(spec, generator) for _ in range(1600)]
    count = Counter(
        (*draw.indices["h"].tolist(), *draw.indices["h/u"].flatten().tolist()) for draw in draws
    )
    assert len(count) == 8
    # Each is drawn 200 times, give or take a standard deviation of √(1600 · 1/8 · 7/8) ≈ 13.
    assert all(abs(times - 200) < 5 * math.sqrt(1600 * 7 / 64) for times in count.values())


def test_a_random_permutation_depends_on_the_generator_only():
    draw = [Permutation.random(ATTENTION.spec, seeded(seed)) for seed in (3, 3, 4)]
    assert draw[0].equal(draw[1])
    assert not draw[0].equal(draw[2])


def test_a_fixed_group_stays_while_the_groups_inside_it_move():
    spec = rich_spec()
    permutation = Permutation.random(spec, seeded(0))
    assert permutation.indices["h"].tolist() == [0, 1, 2]
    assert permutation.moved() > 0
    moved = Permutation({**permutation.indices, "h": torch.tensor([1, 0, 2])})
    with pytest.raises(SpecError, match="group h is fixed, but is permuted"):
        moved.check(spec)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 0, 1]), r"group h: not a permutation of shape \(3,\)"),
        (torch.tensor([1, 2, 3]), "not a permutation"),
        (torch.tensor([0, 1, -1]), "not a permutation"),
        (torch.tensor([0, 1]), r"not a permutation of shape \(3,\)"),
        (torch.tensor([[0, 1, 2]]), r"not a permutation of shape \(3,\)"),
        (torch.tensor(0), "not a permutation"),
        (torch.tensor([2.0, 1.0, 0.0]), "group h: torch.float32 on cpu, not int64 on cpu"),
        (torch.tensor([2, 1, 0], dtype=torch.int32), "torch.int32 on cpu, not int64"),
        (torch.zeros(3, dtype=torch.int64, device="meta"), "torch.int64 on meta, not int64 on cpu"),
    ],
)
def test_what_is_no_permutation_is_refused(index: Tensor, message: str):
    spec = PermutationSpec({}, {"h": Group(3)})
    with pytest.raises(SpecError, match=message):
        Permutation({"h": index}).check(spec)


def test_a_permutation_of_other_groups_is_refused():
    spec = PermutationSpec({}, {"h": Group(3), "g": Group(1)})
    with pytest.raises(SpecError, match="permutation and spec differ in the groups g, k"):
        Permutation({"h": torch.arange(3), "k": torch.arange(1)}).check(spec)


def test_moved_is_the_share_of_units_out_of_place():
    permutation = Permutation({"a": torch.tensor([1, 0, 2, 3]), "b": torch.tensor([0])})
    assert permutation.moved() == pytest.approx(2 / 5)
    assert Permutation({}).moved() == 0


def test_permutations_are_equal_when_all_groups_are():
    one = Permutation({"a": torch.tensor([1, 0]), "b": torch.tensor([0])})
    assert one.equal(Permutation({"b": torch.tensor([0]), "a": torch.tensor([1, 0])}))
    assert not one.equal(Permutation({"a": torch.tensor([0, 1]), "b": torch.tensor([0])}))
    assert not one.equal(Permutation({"a": torch.tensor([1, 0])}))
