"""Networks are matched to permuted copies of themselves: every group must come out exactly."""

import pytest
import torch

from symport.matching import match
from symport.objectives import weights
from symport.permute import permute
from symport.spec import Permutation, PermutationSpec
from symport.symmetry import discover
from symport_recipes.zoo import ZOO, measure
from symport_recipes.zoo.residual import ResNet

SEEDS = 50  # of which 49 must be right


def drawn(model, generator):
    """Random weights, the same where the model ties them."""
    seen = {}
    return {
        name: seen.setdefault(
            (tensor.data_ptr(), tensor.shape),
            torch.randn(tensor.shape, generator=generator)
            if tensor.is_floating_point() else tensor,
        )
        for name, tensor in model.state_dict().items()
    }  # fmt: skip


def count_exact(model, spec: PermutationSpec, seeds: int) -> int:
    exact = 0
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        source = drawn(model, generator)
        planted = Permutation.random(spec, generator)
        target = permute(source, spec, planted)
        exact += match(spec, weights(target, source, spec)).permutation.equal(planted)
    return exact


def find(name):
    pytest.importorskip("transformers")
    found = measure(next(architecture for architecture in ZOO if architecture.name == name))
    return found.model, found.spec


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_a_permuted_transformer_is_matched(name):
    model, spec = find(name)
    assert count_exact(model, spec, 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Llama", "GPT2", "ViT", "Mixtral", "Mamba"])
def test_a_permuted_transformer_is_matched_for_every_seed(name):
    model, spec = find(name)
    assert count_exact(model, spec, SEEDS) >= SEEDS - 1


@pytest.mark.slow
def test_a_permuted_resnet_50_is_matched_for_every_seed():
    model = ResNet((3, 4, 6, 3), base=8, bottleneck=True)
    spec = discover(model, torch.zeros(1, 3, 32, 32))
    assert count_exact(model, spec, SEEDS) >= SEEDS - 1
