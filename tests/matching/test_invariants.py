import pytest
import torch
from cases import Case, every_case, seeded

from symport.matching import Pair, best_start, match, weights
from symport.matching._invariants import invariant_start
from symport.spec import Permutation, PermutationSpec, permute

SEEDS = 50


def residual(width: int, hidden: int, blocks: int) -> Case:
    """A residual perceptron without biases: x + W₂ relu(W₁ x) in each block."""
    shapes = {"in": (width, 7), "out": (4, width)}
    patterns = {"in": "d .", "out": ". d"}
    for k in range(blocks):
        shapes |= {f"up{k}": (hidden, width), f"down{k}": (width, hidden)}
        patterns |= {f"up{k}": f"h{k} d", f"down{k}": f"d h{k}"}
    return Case(f"{blocks} blocks of {width}, {hidden}", patterns, shapes)


@pytest.mark.parametrize("blocks", [2, 3])
@pytest.mark.parametrize(("width", "hidden"), [(3, 5), (30, 50), (64, 128)])
def test_a_permuted_residual_network_is_matched_for_every_seed(width, hidden, blocks):
    case = residual(width, hidden, blocks)
    spec = case.spec
    exact = 0
    for seed in range(SEEDS):
        source = case.draw(seeded(seed))
        planted = Permutation.random(spec, seeded(1000 + seed))
        target = permute(source, spec, planted)
        exact += match(spec, weights(target, source, spec)).permutation.equal(planted)
    assert exact >= SEEDS - 1


@every_case
def test_a_permuted_copy_is_recognised_by_invariants_alone(case):
    spec = case.spec
    source = case.draw(seeded(1))
    planted = Permutation.random(spec, seeded(2))
    pairs = [Pair(permute(source, spec, planted), source)]
    # Coupled inner units are left to the ascent that follows.
    if "kv/q" not in spec.groups:
        assert invariant_start(spec, pairs).equal(planted)
    assert match(spec, pairs).permutation.equal(planted)


@every_case
def test_copies_in_the_same_order_start_from_the_identity(case):
    spec = case.spec
    source = case.draw(seeded(1))
    target = {name: tensor + 0.1 * torch.ones_like(tensor) for name, tensor in source.items()}
    assert best_start(spec, [Pair(target, source)]).equal(Permutation.identity(spec))


def test_independent_networks_start_from_the_identity():
    case = residual(30, 50, 2)
    pairs = [Pair(case.draw(seeded(1)), case.draw(seeded(2)))]
    assert best_start(case.spec, pairs).equal(Permutation.identity(case.spec))


def test_units_of_equal_invariants_are_matched():
    spec = PermutationSpec.parse({"w": "a b"}, sizes={"a": 20, "b": 20})
    pair = Pair({"w": torch.eye(20)}, {"w": torch.eye(20).flip(0)})
    assert invariant_start(spec, [pair]).equal(Permutation.identity(spec))
    assert match(spec, [pair]).objective == 20
