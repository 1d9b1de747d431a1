import pytest
import torch
from cases import ATTENTION, CASES, CONVOLUTION, EXPERTS, MLP, RECURRENT, every_case, seeded

from symport.errors import ParamsError, SpecError
from symport.matching import Pair, Similarity, facet_index, solve
from symport.params import inner
from symport.spec import Permutation, PermutationSpec, permute


def drawn_pairs(case, count, seed=0):
    generator = seeded(seed)
    return [Pair(case.draw(generator), case.draw(generator), 0.5 + k) for k in range(count)]


def filled(case, pairs, start=None):
    similarity = Similarity(case.spec, start)
    for pair in pairs:
        similarity.add(pair)
    return similarity


def objective(case, pairs, permutation):
    """Written out: permute the source, multiply, add."""
    return sum(
        pair.weight * inner(pair.target, permute(pair.source, case.spec, permutation))
        for pair in pairs
    )


@every_case
def test_the_objective_is_kept_while_pairs_come_and_units_move(case):
    pairs = drawn_pairs(case, 3)
    similarity, generator = Similarity(case.spec), seeded(5)
    for count, pair in enumerate(pairs, 1):
        similarity.add(pair)
        for _ in range(2):
            permutation = Permutation.random(case.spec, generator)
            similarity.move_to(permutation)
            assert similarity.permutation.equal(permutation)
            expected = objective(case, pairs[:count], permutation)
            assert similarity.objective == pytest.approx(expected, abs=1e-3)


@every_case
def test_moving_one_tree_gains_what_placing_it_returns(case):
    pairs, generator = drawn_pairs(case, 2), seeded(6)
    similarity = filled(case, pairs, Permutation.random(case.spec, generator))
    for tree, groups in similarity.trees.items():
        before = objective(case, pairs, similarity.permutation)
        other = Permutation.random(case.spec, generator)
        gain = similarity.place(tree, {group: other.indices[group] for group in groups})
        after = objective(case, pairs, similarity.permutation)
        assert gain == pytest.approx(after - before, abs=1e-3)


# The objective is linear in a tree unless, as in RECURRENT, it stands on two axes of one tensor.
@pytest.mark.parametrize(
    "case", [case for case in CASES if case is not RECURRENT], ids=lambda case: case.name
)
def test_similarities_say_what_a_tree_on_its_own_would_gain(case):
    pairs, generator = drawn_pairs(case, 2), seeded(7)
    start = Permutation.random(case.spec, generator)
    similarity = filled(case, pairs, start)
    for tree, groups in similarity.trees.items():
        other = Permutation.random(case.spec, generator)
        moved = {**start.indices, **{group: other.indices[group] for group in groups}}
        rise = similarity.value(tree, moved) - similarity.value(tree, start.indices)
        expected = objective(case, pairs, Permutation(moved)) - objective(case, pairs, start)
        assert rise == pytest.approx(expected, abs=1e-3)


def test_each_entry_is_the_gain_of_one_unit_at_one_place():
    (pair,) = drawn_pairs(MLP, 1)
    start = Permutation.random(MLP.spec, seeded(3))
    gains = filled(MLP, [pair], start).gains("a")[("a",)]
    b = start.indices["b"]
    for i in range(6):
        for j in range(6):
            row = pair.target["w1"][i] @ pair.source["w1"][j]
            bias = pair.target["b1"][i] * pair.source["b1"][j]
            column = pair.target["w2"][:, i] @ pair.source["w2"][b, j]
            assert float(gains[i, j]) == pytest.approx(0.5 * float(row + bias + column), abs=1e-4)


def test_trees_are_neighbours_if_they_share_a_tensor():
    similarity = filled(MLP, drawn_pairs(MLP, 1))
    assert similarity.neighbours("a") == similarity.neighbours("b") == {"a", "b"}
    assert filled(RECURRENT, drawn_pairs(RECURRENT, 1)).neighbours("h") == {"h"}
    attention = filled(ATTENTION, drawn_pairs(ATTENTION, 1))
    assert attention.neighbours("h") == {"h", "d"}
    assert filled(EXPERTS, drawn_pairs(EXPERTS, 1)).neighbours("d") == {"e", "d"}
    only_first = {name: torch.ones(MLP.shapes[name]) for name in ("w1", "b1")}
    alone = Similarity(MLP.spec)
    alone.add(Pair(only_first, only_first))
    assert alone.neighbours("a") == set()


def test_a_tree_has_changed_when_its_similarity_has():
    similarity = filled(MLP, drawn_pairs(MLP, 1))
    assert sorted(similarity.take_changed()) == ["a", "b"]
    assert similarity.take_changed() == []
    moved = similarity.indices("a")["a"].flip(0)
    similarity.place("a", {"a": moved})
    similarity.add(Pair({"b1": torch.ones(6)}, {"b1": torch.ones(6)}))
    similarity.place("a", {"a": moved.flip(0)})
    assert similarity.take_changed() == ["b", "a"]
    solve(similarity)
    assert similarity.take_changed() == []


def test_every_tree_has_changed_after_a_move_unless_it_is_solved_there():
    similarity = filled(MLP, drawn_pairs(MLP, 1))
    similarity.move_to(similarity.permutation)
    assert similarity.take_changed() == ["a", "b"]
    similarity.move_to(Permutation.random(MLP.spec, seeded(1)), solved=True)
    assert similarity.take_changed() == []


def test_a_placement_that_does_not_gain_is_undone():
    similarity = filled(RECURRENT, drawn_pairs(RECURRENT, 1))
    start = similarity.permutation
    other = {"h": start.indices["h"].flip(0)}
    gain = similarity.place("h", other)
    similarity.place("h", start.indices)
    similarity.place_if_better("h", other, slack=gain + 1e-6)
    assert similarity.permutation.equal(start)
    similarity.place_if_better("h", other, slack=gain - 1e-6)
    assert torch.equal(similarity.indices("h")["h"], other["h"])


def test_tensors_that_move_along_one_axis_are_not_kept():
    (pair,) = drawn_pairs(CONVOLUTION, 1)
    assert filled(CONVOLUTION, [pair]).kept_bytes == 2 * pair.target["w2"].nbytes


@every_case
def test_what_is_kept_rounded_counts_as_it_is_rounded(case):
    """Sums, and corrections after moves, are those of the rounded pairs themselves."""
    pairs, generator = drawn_pairs(case, 2), seeded(8)
    similarity = Similarity(case.spec, keep=torch.bfloat16)
    for pair in pairs:
        similarity.add(pair)
    similarity.move_to(Permutation.random(case.spec, generator))
    similarity.move_to(Permutation.identity(case.spec))
    rounded = Similarity(case.spec)
    for pair in pairs:
        target, source = (
            {n: _kept(case, n, t) for n, t in side.items()} for side in (pair.target, pair.source)
        )
        rounded.add(Pair(target, source, pair.weight))
    for tree in similarity.trees:
        for facet, gain in rounded.gains(tree).items():
            assert torch.allclose(similarity.gains(tree)[facet], gain, atol=1e-4)
    assert similarity.kept_bytes * 2 == rounded.kept_bytes


def _kept(case, name, tensor):
    """Rounded if some part of it is kept: one along which several groups move."""
    alone = Similarity(case.spec)
    alone.add(Pair({name: tensor}, {name: tensor}))
    return tensor.bfloat16().float() if alone.kept_bytes else tensor


def test_a_part_of_the_network_will_do():
    pair = drawn_pairs(MLP, 1)[0]
    half = Pair({"w2": pair.target["w2"]}, {"w2": pair.source["w2"]})
    similarity = filled(MLP, [half])
    expected = inner(half.target, half.source)
    assert similarity.objective == pytest.approx(expected, rel=1e-5)


def test_gains_from_elsewhere_are_added():
    similarity = filled(MLP, drawn_pairs(MLP, 1))
    before, objective_before = similarity.gains("a")[("a",)].clone(), similarity.objective
    extra = torch.randn(6, 6, generator=seeded(9))
    similarity.add_similarity("a", extra)
    assert torch.allclose(similarity.gains("a")[("a",)], before + extra.double())
    trace = float(extra.double().diagonal().sum())
    assert similarity.objective == pytest.approx(objective_before + trace)
    for group, shape in (("a", (5, 5)), ("z", (6, 6)), ("h/qk", (4, 4))):
        with pytest.raises(
            SpecError, match=rf"{group}: no root group fits a similarity of \({shape[0]}"
        ):
            filled(ATTENTION, []).add_similarity(group, torch.zeros(shape))


def test_a_start_must_be_a_permutation_of_the_spec():
    with pytest.raises(SpecError, match="differ in the groups a, b"):
        Similarity(MLP.spec, Permutation({}))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("side", ["target", "source"])
def test_weights_that_cannot_be_matched_are_refused(dtype, side):
    pair = drawn_pairs(MLP, 1)[0]
    sides = {"target": dict(pair.target), "source": dict(pair.source)}
    sides[side]["w2"] = torch.ones(5, 6, dtype=dtype)
    with pytest.raises(ParamsError, match=f"w2: the {side} is of {dtype} and cannot be matched"):
        filled(MLP, [Pair(sides["target"], sides["source"])])


def test_counts_and_statistics_do_not_take_part():
    shapes = PermutationSpec.parse(
        {"w": "h", "var": "h", "mask": "h", "n": ""},
        sizes={"h": 2},
        buffers=["var", "mask"],
    )
    pair = {
        "w": torch.ones(2),
        "var": torch.ones(2),
        "mask": torch.ones(2, dtype=torch.bool),
        "n": torch.tensor(7),
    }
    similarity = Similarity(shapes)
    similarity.add(Pair(pair, pair))
    assert similarity.objective == 2
    assert list(shapes.matched(pair)) == ["w"]
    assert [shapes.moves(name) for name in pair] == [True, False, False, False]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(bad):
    pair = drawn_pairs(MLP, 1)[0]
    pair.source["b3"][1] = bad
    with pytest.raises(ParamsError, match="b3: the source holds NaN or infinity"):
        filled(MLP, [pair])


def test_finite_values_with_an_infinite_sum_are_taken():
    big = {"w1": torch.full((6, 4), 1e38)}
    assert filled(MLP, [Pair(big, {"w1": torch.zeros(6, 4)})]).objective == 0


def test_facets_of_a_tree_are_indexed_row_major():
    similarity = filled(ATTENTION, drawn_pairs(ATTENTION, 1))
    sizes = {facet: gain.shape for facet, gain in similarity.gains("h").items()}
    assert sizes == {("h", "h/qk"): (8, 8), ("h", "h/v"): (8, 8)}
    identity = Permutation.identity(ATTENTION.spec).indices
    assert facet_index(("h", "h/v"), identity).tolist() == list(range(8))
