import pytest
import torch
from cases import MLP, every_case, seeded
from nets import gradient, spec, weights

from symport.errors import ParamsError
from symport.matching import gradients, match
from symport.matching import weights as weight_pairs
from symport.params import inner
from symport.spec import Permutation, PermutationSpec, permute


@every_case
def test_weight_matching_is_the_inner_product_of_the_weights(case):
    generator = seeded(0)
    target, source = case.draw(generator), case.draw(generator)
    (pair,) = weight_pairs(target, source, case.spec, weight=2.0)
    permutation = Permutation.random(case.spec, generator)
    moved = permute(dict(pair.source), case.spec, permutation)
    expected = permute(source, case.spec, permutation)
    assert pair.weight * inner(pair.target, moved) == pytest.approx(2 * inner(target, expected))


def test_statistics_do_not_take_part():
    shapes = PermutationSpec.parse({"w": "h", "var": "h"}, sizes={"h": 2}, buffers=["var"])
    params = {"w": torch.zeros(2), "var": torch.ones(2)}
    (pair,) = weight_pairs(params, params, shapes)
    assert list(pair.target) == list(pair.source) == ["w"]


def test_normalized_gradients_are_unit_vectors():
    target, source = (gradient()(weights(seed), 0) for seed in (2, 1))
    (plain,) = gradients(target, source)
    (unit,) = gradients(target, source, normalize=True)
    assert plain.weight == 1
    lengths = [
        torch.cat([tensor.double().flatten() for tensor in grads.values()]).norm()
        for grads in (target, source)
    ]
    assert unit.weight == pytest.approx(1 / float(lengths[0] * lengths[1]))
    scaled = {name: 1000 * tensor for name, tensor in source.items()}
    (same,) = gradients(target, scaled, normalize=True)
    assert same.weight * inner(same.target, same.source) == pytest.approx(
        unit.weight * inner(unit.target, unit.source), rel=1e-5
    )


def test_a_gradient_of_zero_cannot_be_normalized():
    zero = {name: torch.zeros_like(tensor) for name, tensor in weights(1).items()}
    with pytest.raises(ParamsError, match="zero everywhere and cannot be normalised"):
        gradients(zero, weights(1), normalize=True)
    assert gradients(zero, weights(1))[0].weight == 1


def test_objectives_add_up_when_their_lists_are_joined():
    generator = seeded(1)
    first, second, third, fourth = (MLP.draw(generator) for _ in range(4))
    pairs = weight_pairs(first, second, MLP.spec, weight=0.5) + gradients(third, fourth)
    result = match(MLP.spec, pairs)
    moved = [permute(p, MLP.spec, result.permutation) for p in (second, fourth)]
    expected = 0.5 * inner(first, moved[0]) + inner(third, moved[1])
    assert result.objective == pytest.approx(expected, rel=1e-5)


def test_weights_of_a_copy_in_another_order_are_aligned():
    permutation = Permutation.random(spec(), seeded(2))
    target = permute(weights(1), spec(), permutation)
    found = match(spec(), weight_pairs(target, weights(1), spec()))
    assert found.permutation.equal(permutation)
