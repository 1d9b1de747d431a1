"""Published models of unusual make, with the groups that are counted by hand of one layer each."""

import pytest
import torch
from elements import largest_change

from symport.symmetry import discover

transformers = pytest.importorskip("transformers")

TEXT = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
    "num_attention_heads": 4, "max_position_embeddings": 40, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHARED = {**TEXT, "num_key_value_heads": 2}
GENERATOR = torch.Generator().manual_seed(0)
TOKENS = {"input_ids": torch.randint(3, 64, (2, 8), generator=GENERATOR)}
DECODER = {**TOKENS, "use_cache": False}
PIXELS = {"pixel_values": torch.randn(2, 3, 32, 32, generator=GENERATOR)}


def logits(out):
    return out.logits


def phimoe():
    """Two experts are chosen one after the other, and their places joined."""
    config = transformers.PhimoeConfig(
        **SHARED, num_local_experts=4, experts_implementation="batched_mm"
    )
    return transformers.PhimoeForCausalLM(config), DECODER, logits


def stablelm():
    """A norm for each head."""
    config = transformers.StableLmConfig(**SHARED, qk_layernorm=True, partial_rotary_factor=0.5)
    return transformers.StableLmForCausalLM(config), DECODER, logits


def falcon():
    """Keys and values are taken out of fused rows by an index in brackets."""
    config = transformers.FalconConfig(**TEXT, new_decoder_architecture=True, num_kv_heads=2)
    return transformers.FalconForCausalLM(config), DECODER, logits


def nystromformer():
    """A convolution across positions is added to the values."""
    config = transformers.NystromformerConfig(
        **TEXT, segment_means_seq_len=8, num_landmarks=8, conv_kernel_size=3
    )
    return transformers.NystromformerForMaskedLM(config), TOKENS, logits


def sam():
    """Fused rows are reshaped twice before they are split."""
    config = transformers.SamVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8,
        window_size=2, output_channels=8, global_attn_indexes=[0], num_pos_feats=4, mlp_dim=24,
    )  # fmt: skip
    return transformers.SamVisionModel(config), PIXELS, lambda out: out.last_hidden_state


def vitdet():
    config = transformers.VitDetConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8,
        window_block_indices=[], use_relative_position_embeddings=True, mlp_ratio=2,
    )  # fmt: skip
    return transformers.VitDetModel(config), PIXELS, lambda out: out.last_hidden_state


def rwkv():
    """The first evaluation writes to the weights: the second layer is halved."""
    config = transformers.RwkvConfig(
        vocab_size=64, hidden_size=16, attention_hidden_size=16, intermediate_size=24,
        num_hidden_layers=2, rescale_every=1, context_length=40,
    )  # fmt: skip
    return transformers.RwkvForCausalLM(config), DECODER, logits


# A stream, the hidden units of its layer, and what is said of attention.
MODELS = {
    phimoe: 1 + 2 + 3,  # experts, units in each; key heads, query heads in each, units of values
    stablelm: 1 + 1 + 3,  # units of keys that are not rotated; key heads, which stay, with values
    falcon: 1 + 1 + 3,  # key heads, query heads in each, units of values
    nystromformer: 1 + 1 + 3,  # heads, units of queries and keys, of values
    sam: 1 + 1 + 3 + 1,  # heads, units of queries and keys, of values; and of the neck
    vitdet: 1 + 3,  # the same, but its stream is what it returns
    rwkv: 1 + 2 * 2,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers, about tiny sizes
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_published_model_has_the_groups_that_are_counted(make):
    torch.manual_seed(0)
    model, inputs, select = make()
    model.eval()
    spec = discover(model, inputs, strict=True, select=select)
    with torch.device("meta"):
        empty = make()[0].eval()
    assert discover(empty, inputs, select=select).patterns == spec.patterns
    assert len(spec.groups) == MODELS[make]
    assert largest_change(model, spec, select=select, **inputs) < 1e-10
