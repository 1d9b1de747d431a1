"""Networks are matched to permuted copies of themselves: every group must come out exactly."""

import pytest
import torch

from symport_recipes.experiments._planted import (
    SEEDS,
    TRANSFORMERS,
    count,
    count_exact,
    drawn,
    from_zoo,
    networks,
    residual,
    resnet_50,
)

FEWEST = SEEDS - 1  # of which one may fail


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_a_permuted_transformer_is_matched(name):
    pytest.importorskip("transformers")
    assert count_exact(*from_zoo(name), 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_permuted_transformer_is_matched_for_every_seed(name):
    pytest.importorskip("transformers")
    assert count_exact(*from_zoo(name), SEEDS) >= FEWEST


@pytest.mark.slow
def test_a_permuted_resnet_50_is_matched_for_every_seed():
    assert count_exact(*resnet_50(), SEEDS) >= FEWEST


def test_a_residual_perceptron_has_a_stream_and_a_group_in_each_block():
    model, spec = residual(5, 8, 3)
    assert sorted(spec.sizes.values()) == [5, 8, 8, 8]
    assert count(model, spec, 2).ours == 2


def test_weights_are_drawn_anew_for_each_seed_and_tied_where_the_model_ties_them():
    model, _ = residual(4, 6, 1)
    model.again = model.first
    one, two = (drawn(model, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert one["again.weight"] is one["first.weight"]
    assert not torch.equal(one["first.weight"], two["first.weight"])


def test_every_network_that_is_tried_has_a_name_of_its_own():
    names = list(networks())
    assert len(names) == 6 + len(TRANSFORMERS) + 1
    assert names[0] == "residual MLP 3, 5, 2 blocks"
