from typing import Any

import pytest
import torch
from nets import gradient, planted_target, source, spec, trained, weights

from symport.errors import SettingsError
from symport.methods import FGMT, GMT, Identity, Method, Problem, transfer
from symport.spec import Permutation, permute

T = 5


@pytest.mark.parametrize("make", [FGMT, GMT])
@pytest.mark.parametrize("start", ["previous", "identity"])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_permuted_initialization_gets_the_permuted_training(make, start, normalize):
    target, permutation = planted_target()
    result = transfer(source(T), target, spec(), make(gradient(), start=start, normalize=normalize))
    assert result.permutation.equal(permutation)
    expected = permute(trained(weights(1)), spec(), permutation)
    for name, tensor in expected.items():
        assert torch.allclose(result.params[name], tensor, atol=1e-6)


def test_fgmt_computes_two_gradients_for_each_step():
    slope = gradient()
    result = transfer(source(T), weights(2), spec(), FGMT(slope))
    assert slope.evaluations == result.evaluations == 2 * T
    assert all(record.evaluations == 2 for record in result.history)


def test_gmt_computes_the_gradients_of_the_source_once():
    slope = gradient()
    result = transfer(source(T), weights(2), spec(), GMT(slope))
    # T for the source; for the target one at the initialization, then at most t at step t.
    assert slope.evaluations == result.evaluations <= T + 1 + T * (T - 1) // 2 < T * (T + 1)


def test_several_targets_share_the_gradients_of_one_source():
    slope, trajectory = gradient(), source(T)
    for seed in (2, 3, 4):
        transfer(trajectory, weights(seed), spec(), FGMT(slope))
    assert slope.evaluations == T + 3 * T


def test_each_step_uses_its_own_batch_for_both_networks():
    seen = []
    slope = gradient(count=3)
    original = slope._piece
    slope._piece = lambda params, leaves, piece: (
        seen.append(piece.number) or original(params, leaves, piece)
    )
    transfer(source(4), weights(2), spec(), FGMT(slope))
    assert seen == [0, 0, 1, 1, 2, 2, 0, 0]


def test_fgmt_matches_the_sum_of_all_pairs_so_far():
    """The first step of FGMT and of GMT see the same pair; later ones may differ."""

    def first(method: Method[Any]) -> Permutation:
        problem = Problem(source(T), weights(2), spec())
        return method.step(problem, method.init(problem), 1).permutation

    assert first(FGMT(gradient())).equal(first(GMT(gradient())))


def test_an_unknown_start_is_refused():
    with pytest.raises(SettingsError, match="'previous' or 'identity', not 'random'"):
        FGMT(gradient(), start="random")  # pyright: ignore[reportArgumentType]  # refused


def test_the_identity_needs_no_gradient():
    assert transfer(source(T), weights(2), spec(), Identity()).evaluations == 0
