from itertools import permutations

import pytest
import torch
from cases import MLP, every_case, seeded
from nets import planted_target, same, source, spec, trained, weights

from symport.errors import SpecError
from symport.methods import (
    Cost,
    GivenPermutation,
    Identity,
    Method,
    Oracle,
    Problem,
    State,
    WeightMatching,
)
from symport.params import add, inner, subtract
from symport.spec import Permutation, PermutationSpec, permute
from symport.trajectory import Trajectory


def random(case, count, seed=0):
    generator = seeded(seed)
    return [case.draw(generator) for _ in range(count)]


@every_case
def test_placing_adds_the_permuted_displacement(case):
    start, end, target = random(case, 3)
    problem = Problem(Trajectory.linear(start, end, 4), target, case.spec)
    permutation = Permutation.random(case.spec, seeded(1))
    placed = problem.place(permutation, 3)
    for name, tensor in permute(subtract(end, start), case.spec, permutation).items():
        assert torch.allclose(placed[name], target[name] + 0.75 * tensor, atol=1e-5)


def test_placing_equals_laying_the_path_step_by_step():
    """Lines 7 to 10 of Algorithm 1 as they stand: all increments are laid again, one by one."""
    points = random(MLP, 5)
    target = random(MLP, 1, seed=9)[0]
    problem = Problem(Trajectory.recorded(points), target, MLP.spec)
    permutation = Permutation.random(MLP.spec, seeded(1))
    path = target
    for t in range(1, 5):
        path = add(path, permute(subtract(points[t], points[t - 1]), MLP.spec, permutation))
        for name, tensor in problem.place(permutation, t).items():
            assert torch.allclose(tensor, path[name], atol=1e-5)


def test_step_zero_is_the_target_and_a_scale_is_a_factor():
    start, end, target = random(MLP, 3)
    problem = Problem(Trajectory.linear(start, end, 2), target, MLP.spec)
    permutation = Permutation.random(MLP.spec, seeded(1))
    assert same(problem.place(permutation, 0), target)
    once, half = problem.place(permutation, 2), problem.place(permutation, 2, 0.5)
    for name, tensor in target.items():
        assert torch.allclose(half[name] - tensor, (once[name] - tensor) / 2, atol=1e-6)


def test_statistics_and_counts_stay_with_the_target():
    shapes = PermutationSpec.parse(
        {"w": "h", "var": "h", "n": ""}, sizes={"h": 2}, buffers=["var", "n"]
    )
    start = {"w": torch.zeros(2), "var": torch.zeros(2), "n": torch.tensor(0)}
    end = {"w": torch.tensor([1.0, 2.0]), "var": torch.ones(2), "n": torch.tensor(9)}
    target = {"w": torch.zeros(2), "var": torch.full((2,), 5.0), "n": torch.tensor(4)}
    problem = Problem(Trajectory.linear(start, end, 1), target, shapes)
    placed = problem.place(Permutation({"h": torch.tensor([1, 0])}), 1)
    assert placed["w"].tolist() == [2, 1]
    assert placed["var"].tolist() == [5, 5]
    assert int(placed["n"]) == 4


def test_the_identity_moves_nothing():
    problem = Problem(source(), weights(2), spec())
    state = Identity().init(problem)
    assert state.permutation.moved() == 0
    assert state.objective is None


@pytest.mark.parametrize("method", [Identity(), WeightMatching()], ids=lambda method: method.name)
def test_one_permutation_serves_every_step(method):
    problem = Problem(source(), weights(2), spec())
    state = method.init(problem)
    assert all(method.step(problem, state, step) is state for step in (1, 2, 5))
    assert method.restore(problem, [method.init(problem), state]) is state
    assert (state.cost, method.settings()) == (Cost(), {})


def test_a_given_permutation_must_be_one_of_the_spec():
    problem = Problem(source(), weights(2), spec())
    permutation = Permutation.random(spec(), seeded(0))
    assert GivenPermutation(permutation).init(problem).permutation is permutation
    with pytest.raises(SpecError, match="differ in the groups b"):
        GivenPermutation(Permutation({"a": permutation.indices["a"]})).init(problem)
    with pytest.raises(SpecError, match="group a: not a permutation"):
        GivenPermutation(
            Permutation({**permutation.indices, "a": torch.zeros(8, dtype=torch.int64)})
        ).init(problem)


SMALL = PermutationSpec.parse({"w1": "h .", "w2": ". h"}, sizes={"h": 5})


def small(seed):
    generator = seeded(seed)
    return {
        "w1": torch.randn(5, 3, generator=generator),
        "w2": torch.randn(2, 5, generator=generator),
    }


def best_by_brute_force(target, start):
    every = (Permutation({"h": torch.tensor(order)}) for order in permutations(range(5)))
    return max(every, key=lambda p: inner(target, permute(start, SMALL, p)))


@pytest.mark.parametrize("seed", range(4))
def test_weight_matching_aligns_the_initializations(seed):
    start, end, target = (small(10 * seed + k) for k in range(3))
    problem = Problem(Trajectory.linear(start, end, 3), target, SMALL)
    found = WeightMatching().init(problem)
    assert found.permutation.equal(best_by_brute_force(target, start))
    moved = permute(start, SMALL, found.permutation)
    assert found.objective == pytest.approx(inner(target, moved), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_oracle_aligns_the_displacements(seed):
    start, end, target, target_final = (small(10 * seed + k) for k in range(4))
    problem = Problem(Trajectory.linear(start, end, 3), target, SMALL)
    found = Oracle(target_final).init(problem).permutation
    assert found.equal(best_by_brute_force(subtract(target_final, target), subtract(end, start)))


def test_the_oracle_of_a_permuted_training_knows_the_permutation():
    target, permutation = planted_target()
    goal = permute(trained(weights(1)), spec(), permutation)
    problem = Problem(source(), target, spec())
    assert Oracle(goal).init(problem).permutation.equal(permutation)


def test_a_method_must_say_how_it_begins_and_goes_on():
    class Half(Method):
        name = "half"

        def init(self, problem):
            return State(Permutation.identity(problem.spec))

    with pytest.raises(TypeError, match="abstract"):
        Half()  # pyright: ignore[reportAbstractUsage]  # refused
