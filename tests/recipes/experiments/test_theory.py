from dataclasses import replace
from itertools import permutations

import pytest
import torch
from smallscenes import NARROW, SMALL
from torch import Generator

from symport.params import norm, subtract
from symport.spec import Permutation, PermutationSpec, permute
from symport_recipes.data import Examples
from symport_recipes.experiments import Drift, Similarity, Theorem31
from symport_recipes.experiments._theory import cosines, distance, drifts
from symport_recipes.networks import initial
from symport_recipes.setups import Bench, draw, halves, spec_of
from symport_recipes.training import train

ANEW = Bench()


def test_a_permuted_copy_is_seen_as_the_same_direction():
    spec = spec_of(NARROW, "digits")
    source = initial(NARROW, 0)
    planted = Permutation.random(spec, Generator().manual_seed(1))
    target = permute(source, spec, planted)
    assert cosines([source], [target], spec, planted) == pytest.approx([1])
    (identity,) = cosines([source], [target], spec, Permutation.identity(spec))
    flat = [torch.cat([t.flatten() for t in params.values()]) for params in (source, target)]
    assert identity == pytest.approx(float(torch.cosine_similarity(*flat, dim=0)), abs=1e-6)


def test_the_normalised_distance_divides_by_both_lengths():
    a, b = {"w": torch.tensor([4.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
    assert distance(a, b) == pytest.approx(17**0.5 / 2)


def test_updates_are_differences_of_consecutive_iterations_of_one_training():
    found = Similarity(scenes={"a": SMALL}, iterations=(1, 3)).pair(0, ANEW)
    assert list(found.curves) == ["a, matched", "a, identity"]
    settings = replace(SMALL.training, epochs=None, steps=3)
    updates = []
    for seed in (0, 100):
        states = []
        train(
            NARROW(), initial(NARROW, seed), halves("digits").training, settings,
            seed=0, recorder=states.append, record_at=range(4),
        )  # fmt: skip
        updates.append([subtract(states[t], states[t - 1]) for t in (1, 3)])
    spec = spec_of(NARROW, "digits")
    expected = cosines(updates[0], updates[1], spec, Permutation.identity(spec))
    assert found.curves["a, identity"] == pytest.approx(expected, abs=1e-6)
    assert all(a > b for a, b in zip(*found.curves.values(), strict=True))


def test_the_matched_distance_of_theorem_31_is_the_least_over_all_permutations():
    experiment = Theorem31(data="digits", widths=(4,), examples=50)
    found = experiment.pair(0, ANEW)
    data = halves("digits").training
    assert isinstance(data, Examples)
    inputs, labels = data.inputs[:50], data.labels[:50, None].float()

    def gradient(seed: int) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bound = 64**-0.5
            w = torch.empty(4, 64).uniform_(-bound, bound).requires_grad_()
            v = torch.empty(1, 4).uniform_(-0.5, 0.5).requires_grad_()
        loss = ((torch.relu(inputs @ w.T) @ v.T - labels) ** 2).mean()
        grads = torch.autograd.grad(loss, (w, v))
        return dict(zip(("hidden.weight", "out.weight"), grads, strict=True))

    source, target = gradient(0), gradient(100)
    spec = PermutationSpec.parse({"hidden.weight": "h .", "out.weight": ". h"}, sizes={"h": 4})
    every = [
        distance(permute(source, spec, Permutation({"h": torch.tensor(order)})), target)
        for order in permutations(range(4))
    ]
    assert found.curves["matched"] == pytest.approx([min(every)], rel=1e-4)
    assert found.curves["identity"] == pytest.approx([every[0]], rel=1e-4)


def test_the_drift_is_relative_to_how_far_the_source_has_come():
    problem = draw(replace(SMALL, steps=3), 0, ANEW).problem()
    generator = Generator().manual_seed(0)
    one, two = (Permutation.random(problem.spec, generator) for _ in range(2))
    stays, moves = drifts(problem, [one, one, two])
    assert stays == 0
    far = subtract(problem.place(two, 2), problem.place(one, 2))
    assert moves == pytest.approx(norm(far) / norm(problem.source.displacement(2)))


def test_drift_is_measured_between_all_consecutive_steps():
    found = Drift(scene=replace(SMALL, steps=3)).pair(0, ANEW)
    assert found.x == [1, 2]
    assert {name: len(values) for name, values in found.curves.items()} == {
        "gmt": 2, "fgmt": 2, "random": 2,
    }  # fmt: skip
    assert found.curves["fgmt"][-1] < found.curves["random"][-1] == pytest.approx(1.4, abs=0.1)
