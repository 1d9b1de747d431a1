"""The copy on which a model is traced leaves nothing behind, whatever the model keeps on itself."""

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from symport.errors import DiscoveryError
from symport.symmetry import discover
from symport.symmetry.graph._model_copy import evaluation, masks_as_given

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def layers():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def test_a_copy_shares_weights_and_leaves_the_mode():
    net = layers().train()
    with evaluation(net) as copied:
        assert copied is not net
        assert copied.get_parameter("0.weight") is net.get_parameter("0.weight")
        assert not copied.training
    assert net.training


def test_a_weight_that_a_hook_computes_anew_is_followed():
    # Such a hook leaves a tensor on its module that has a gradient, which nothing can copy.
    net = layers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(net[0])
    computed = net[0].weight
    spec = discover(net, X, strict=True)
    assert list(spec.sizes.values()) == [5]
    assert spec.patterns["0.weight_v"][0] == spec.patterns["0.weight_g"][0]
    assert net[0].weight is computed


def test_weights_that_are_pruned_by_a_mask_stay_and_the_mask_is_named():
    net = layers()
    prune.random_unstructured(net[0], "weight", 0.5)
    spec = discover(net, X, strict=True)
    assert spec.groups == {}
    assert "buffer 0.weight_mask" in spec.reasons["0.weight_orig"][0]
    moved = discover(net, X, strict=True, moving=["0.weight_mask"])
    assert list(moved.sizes.values()) == [5]


@pytest.mark.parametrize("old", [False, True])
def test_a_spectral_norm_moves_with_the_vectors_that_it_learned(old):
    net = layers()
    wrap = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    wrap(net[0])
    vectors = sorted(name for name, _ in net.named_buffers())
    assert discover(net, X, strict=True).groups == {}
    spec = discover(net, X, strict=True, moving=vectors)
    assert list(spec.sizes.values()) == [5]
    assert [len(spec.reasons.get(name, {})) for name in vectors] == [0, 1]  # of rows, of columns


def test_what_cannot_be_copied_is_refused_by_name():
    net = layers()
    vars(net)["lock"] = threading.Lock()
    with pytest.raises(
        DiscoveryError, match=r"Sequential cannot be copied: TypeError.*lock.*remove"
    ):
        discover(net, X)


class Causal(nn.Module):
    """torch's own decoder looks into the mask to see whether it is causal."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(8, 2, 10, batch_first=True), 1
        )

    def forward(self, x):
        x = self.first(x)[None]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.last(self.decoder(x, x.flip(1), tgt_mask=mask))


def test_torchs_own_decoder_is_covered_with_its_mask():
    # Stream, hidden units; in two attentions heads, units of queries and keys, units of values.
    spec = discover(Causal(), X, strict=True)
    assert len(spec.groups) == 2 + 2 * 3


def test_torch_looks_into_masks_again_afterwards():
    module = nn.modules.transformer
    before = module._detect_is_causal_mask
    with masks_as_given():
        assert module._detect_is_causal_mask is not before
    assert module._detect_is_causal_mask is before
