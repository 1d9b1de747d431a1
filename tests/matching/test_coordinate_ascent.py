from itertools import permutations, product

import pytest
import torch
from cases import CONVOLUTION, MLP, RECURRENT, Case, every_case, seeded

from symport.errors import ParamsError, SettingsError, SpecError
from symport.matching import Pair, Similarity, match, solve
from symport.matching._coordinate_ascent import restart
from symport.outofcore import match_checkpoints
from symport.params import inner
from symport.spec import Permutation, PermutationSpec, permute


def value(spec: PermutationSpec, pairs: list[Pair], permutation: Permutation) -> float:
    """The objective, written out."""
    return sum(p.weight * inner(p.target, permute(p.source, spec, permutation)) for p in pairs)


def planted(case: Case, seed: int, noise: float, count: int = 3):
    """Pairs whose targets are the permuted sources, with noise."""
    spec, generator = case.spec, seeded(seed)
    permutation = Permutation.random(spec, generator)
    pairs = []
    for k in range(count):
        source = case.draw(generator)
        moved = permute(source, spec, permutation)
        rough = case.draw(generator)
        target = {name: moved[name] + noise * rough[name] for name in moved}
        pairs.append(Pair(target, source, 1.0 + k))
    return spec, pairs, permutation


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_match_finds_a_planted_permutation(case, seed):
    spec, pairs, permutation = planted(case, seed, noise=0.05)
    assert match(spec, pairs, restarts=8, generator=seeded(1)).permutation.equal(permutation)


@every_case
def test_the_reported_objective_is_the_objective(case):
    spec, pairs, _ = planted(case, 3, noise=2.0)
    result = match(spec, pairs)
    assert result.converged
    assert result.objective == pytest.approx(value(spec, pairs, result.permutation), rel=1e-5)


@every_case
def test_matching_never_ends_below_its_start(case):
    spec, pairs, _ = planted(case, 4, noise=3.0)
    for seed in range(5):
        start = Permutation.random(spec, seeded(seed))
        assert match(spec, pairs, start=start).objective >= value(spec, pairs, start) - 1e-4


@every_case
def test_corrected_similarities_equal_those_computed_afresh(case):
    spec, pairs, permutation = planted(case, 5, noise=1.0)
    walked = Similarity(spec)
    for k, pair in enumerate(pairs):
        walked.add(pair)
        walked.move_to(Permutation.random(spec, seeded(k)))
    walked.move_to(permutation)
    fresh = Similarity(spec, permutation)
    for pair in pairs:
        fresh.add(pair)
    assert walked.objective == pytest.approx(fresh.objective, rel=1e-4)
    for tree in walked.trees:
        for facet, gain in fresh.gains(tree).items():
            assert torch.allclose(walked.gains(tree)[facet], gain, atol=1e-3)


def test_matching_finds_the_optimum_that_brute_force_finds():
    case = Case("two groups", {"w1": "a .", "w2": "b a", "w3": ". b"},
                {"w1": (4, 3), "w2": (4, 4), "w3": (2, 4)})  # fmt: skip
    for seed in range(5):
        spec, pairs, _ = planted(case, seed, noise=1.0)
        found = match(spec, pairs, restarts=10, generator=seeded(seed))
        everything = (
            Permutation({"a": torch.tensor(a), "b": torch.tensor(b)})
            for a, b in product(permutations(range(4)), repeat=2)
        )
        best = max(value(spec, pairs, permutation) for permutation in everything)
        assert found.objective == pytest.approx(best, rel=1e-5)


@every_case
def test_memory_and_files_are_searched_by_one_solver(case):
    """Where trees are solved one at a time, both take the same steps to the same place."""
    spec, (pair, *_), _ = planted(case, 5, noise=3.0)

    class OneAtATime(Similarity):
        is_parallel = False

    similarity = OneAtATime(spec)
    similarity.add(pair)
    similarity.move_to(similarity.permutation)  # all trees have changed, in the order of the spec
    found, from_files = solve(similarity), match_checkpoints(pair.source, pair.target, spec)
    assert from_files.permutation.equal(found.permutation)
    assert from_files.objective == pytest.approx(found.objective / pair.weight, rel=1e-5)


def test_a_search_that_the_safeguard_ends_is_continued_by_the_next(monkeypatch):
    spec, pairs, _ = planted(MLP, 3, noise=2.0)
    expected = match(spec, pairs, start=Permutation.identity(spec))
    similarity = Similarity(spec)
    for pair in pairs:
        similarity.add(pair)
    monkeypatch.setattr("symport.matching._coordinate_ascent.MAX_SOLVES_PER_TREE", 0.5)
    found = [solve(similarity) for _ in range(expected.solves)]
    assert [result.solves for result in found] == [1] * expected.solves
    assert [result.converged for result in found] == [False] * (expected.solves - 1) + [True]
    assert found[-1].permutation.equal(expected.permutation)
    assert solve(similarity).solves == 0


def test_a_restart_that_ends_lower_leaves_nothing_to_solve():
    spec, pairs, permutation = planted(MLP, 3, noise=0.1)
    similarity = Similarity(spec, permutation)
    for pair in pairs:
        similarity.add(pair)
    best = solve(similarity)
    for seed in range(5):
        found = restart(similarity, Permutation.random(spec, seeded(seed)), best)
        assert found.permutation.equal(similarity.permutation)
        assert solve(similarity).solves == 0


def test_dead_units_keep_their_places():
    spec = MLP.spec
    pair = Pair(MLP.draw(seeded(0)), MLP.draw(seeded(1)))
    for params in (pair.target, pair.source):
        for name in ("w1", "b1"):
            params[name][2:5] = 0
        params["w2"][:, 2:5] = 0
    start = Permutation.identity(spec)
    index = match(spec, [pair], start=start).permutation.indices["a"]
    assert index[2:5].tolist() == [2, 3, 4]


def test_restarts_are_reproducible_and_each_is_reported():
    spec, pairs, _ = planted(CONVOLUTION, 6, noise=3.0)
    first, second = (match(spec, pairs, restarts=4, generator=seeded(9)) for _ in range(2))
    assert first.permutation.equal(second.permutation)
    assert len(first.objectives) == 5
    assert first.objective == max(first.objectives)


def test_statistics_and_integers_are_not_matched():
    spec = PermutationSpec.parse(
        {"w": "h .", "var": "h", "count": ""}, sizes={"h": 3}, buffers=["var", "count"]
    )
    source = {"w": torch.eye(3), "var": torch.tensor([1.0, 2.0, 9.0]), "count": torch.tensor(1)}
    target = {"w": torch.eye(3), "var": torch.tensor([9.0, 2.0, 1.0]), "count": torch.tensor(5)}
    assert match(spec, [Pair(target, source)]).permutation.indices["h"].tolist() == [0, 1, 2]


def test_gains_from_elsewhere_join_the_objective():
    spec = PermutationSpec.parse({"w": "h ."}, sizes={"h": 3})
    similarity = Similarity(spec)
    similarity.add_similarity("h", torch.eye(3).flip(0))
    assert similarity.objective == 1
    with pytest.raises(SpecError, match="no root group fits"):
        similarity.add_similarity("h", torch.eye(4))


def test_half_precision_is_matched_without_rounding_the_sums():
    spec, pairs, permutation = planted(MLP, 7, noise=0.01)
    halves = [
        Pair({n: t.bfloat16() for n, t in p.target.items()},
             {n: t.bfloat16() for n, t in p.source.items()}) for p in pairs
    ]  # fmt: skip
    assert match(spec, halves).permutation.equal(permutation)


def test_pairs_that_do_not_fit_are_refused():
    spec, (pair, *_), _ = planted(RECURRENT, 8, noise=1.0)
    short = {**pair.source, "out": torch.zeros(2, 5)}
    with pytest.raises(ParamsError, match=r"out: the target has shape \(2, 6\), the source \(2, 5"):
        match(spec, [Pair(pair.target, short)])
    with pytest.raises(ParamsError, match="differ in"):
        match(spec, [Pair(pair.target, {"out": pair.source["out"]})])
    nan = {**pair.source, "out": torch.full((2, 6), torch.nan)}
    with pytest.raises(ParamsError, match="out: the source holds NaN or infinity"):
        match(spec, [Pair(pair.target, nan)])
    with pytest.raises(SpecError, match="no pattern for extra"):
        match(spec, [Pair({"extra": torch.zeros(1)}, {"extra": torch.zeros(1)})])


def test_settings_that_make_no_sense_are_refused():
    spec, pairs, _ = planted(MLP, 9, noise=1.0)
    with pytest.raises(SettingsError, match="pass generator="):
        match(spec, pairs, restarts=1)
    with pytest.raises(SettingsError, match="at least one pair"):
        match(spec, [])
