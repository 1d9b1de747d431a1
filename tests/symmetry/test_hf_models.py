"""Models of transformers with tiny random configurations: what is found, and that it is proven."""

import warnings

import pytest
import torch

from symport.pattern import groups_in, show_pattern
from symport.symmetry import discover

transformers = pytest.importorskip("transformers")

TOKENS = torch.tensor([[5, 9, 33, 8, 7, 41, 12], [6, 6, 10, 50, 21, 30, 14]])
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TEXT = {"input_ids": TOKENS}
DECODER = {**TEXT, "use_cache": False}
SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 32, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHARED = {**SIZES, "num_key_value_heads": 2}
HEADS = {**SHARED, "head_dim": 4}
EXPERTS = {**SHARED, "num_experts_per_tok": 2}
GPT2 = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32,
        "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
          "num_attention_heads": 4, "image_size": 16, "patch_size": 4}  # fmt: skip

# Groups: the stream and, for each of two layers, heads (of keys), query heads or units of queries
# and keys where nothing pins them, units of values, and hidden units.
CASES = {
    "Llama": ("LlamaForCausalLM", SHARED, DECODER, 1 + 2 * 4),
    "Mistral": ("MistralForCausalLM", SHARED, DECODER, 1 + 2 * 4),
    "Qwen2": ("Qwen2ForCausalLM", SHARED, DECODER, 1 + 2 * 4),
    "Qwen3": ("Qwen3ForCausalLM", HEADS, DECODER, 1 + 2 * 4),
    "Gemma": ("GemmaForCausalLM", HEADS, DECODER, 1 + 2 * 4),
    "Gemma2": ("Gemma2ForCausalLM", HEADS, DECODER, 1 + 2 * 4),
    "Phi3": ("Phi3ForCausalLM", SHARED, DECODER, 1 + 2 * 4),
    "Olmo2": ("Olmo2ForCausalLM", SHARED, DECODER, 1 + 2 * 4),
    "GPT2": ("GPT2LMHeadModel", GPT2, DECODER, 1 + 2 * 4),
    "GPTNeoX": ("GPTNeoXForCausalLM", SIZES, DECODER, 1 + 2 * 4),
    "OPT": ("OPTForCausalLM",
            {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16}, DECODER, 1 + 2 * 4),
    "Bloom": ("BloomForCausalLM",
              {"vocab_size": 64, "hidden_size": 16, "n_layer": 2, "n_head": 4},
              DECODER, 2 + 2 * 3),  # its heads stay, in all layers at once
    "Bert": ("BertForMaskedLM", SIZES, TEXT, 1 + 2 * 4),
    "Roberta": ("RobertaForMaskedLM", SIZES, TEXT, 1 + 2 * 4),
    "DistilBert": ("DistilBertForMaskedLM",
                   {"vocab_size": 64, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4},
                   TEXT, 1 + 2 * 4),
    "T5": ("T5ForConditionalGeneration", T5,
           {**DECODER, "decoder_input_ids": TOKENS}, None),
    "ViT": ("ViTForImageClassification", VISION, {"pixel_values": IMAGES}, 1 + 2 * 4),
    "DeiT": ("DeiTForImageClassification", VISION, {"pixel_values": IMAGES}, 1 + 2 * 4),
    "Swin": ("SwinForImageClassification",
             {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 2],
              "num_heads": [2, 4], "window_size": 4}, {"pixel_values": IMAGES}, 2 + 4 * 4),
    "ConvNext": ("ConvNextForImageClassification",
                 {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]},
                 {"pixel_values": torch.randn(1, 3, 64, 64)}, 4 + 5),
    "EfficientNet": ("EfficientNetForImageClassification",
                     {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320,
                      "image_size": 64}, {"pixel_values": torch.randn(1, 3, 64, 64)}, None),
    "Mixtral": ("MixtralForCausalLM",
                {**EXPERTS, "num_local_experts": 4, "experts_implementation": "batched_mm"},
                DECODER, 1 + 2 * 5),
    "Qwen3Moe": ("Qwen3MoeForCausalLM",
                 {**EXPERTS, "head_dim": 4, "num_experts": 4, "moe_intermediate_size": 12,
                  "experts_implementation": "batched_mm"}, DECODER, 1 + 2 * 5),
    "Whisper": ("WhisperForConditionalGeneration",
                {"vocab_size": 64, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
                 "encoder_attention_heads": 4, "decoder_attention_heads": 4,
                 "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8,
                 "max_source_positions": 12, "max_target_positions": 16, "pad_token_id": 0,
                 "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
                {"input_features": torch.randn(2, 8, 24), "decoder_input_ids": TOKENS,
                 "use_cache": False}, None),
    "DeepseekV3": ("DeepseekV3ForCausalLM",
                   {**SIZES, "moe_intermediate_size": 8, "num_key_value_heads": 4,
                    "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
                    "num_experts_per_tok": 2, "kv_lora_rank": 6, "q_lora_rank": 5,
                    "qk_rope_head_dim": 4, "qk_nope_head_dim": 3, "v_head_dim": 5,
                    "first_k_dense_replace": 1, "experts_implementation": "batched_mm"},
                   DECODER, None),
    "Mamba": ("MambaForCausalLM",
              {"vocab_size": 64, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2,
               "time_step_rank": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
              DECODER, 1 + 2 * 3),
}  # fmt: skip


def find(name):
    torch.manual_seed(0)
    kind, settings, inputs, count = CASES[name]
    cls = getattr(transformers, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers says is not ours
        model = cls(cls.config_class(**settings))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="transformers")
        spec = discover(model, inputs, strict=True, select=lambda out: out.logits)
    return model, spec, count


def moving_share(model, spec):
    """The share of parameters that some group can move."""
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    moving = {name for name in sizes if any(list(groups_in(a)) for a in spec.patterns[name])}
    return sum(sizes[name] for name in moving) / sum(sizes.values())


@pytest.mark.parametrize("name", [
    name if name in ("Llama", "GPT2") else pytest.param(name, marks=pytest.mark.slow)
    for name in CASES
])  # fmt: skip
def test_the_groups_of_a_known_architecture_are_found_and_proven(name):
    model, spec, count = find(name)
    assert count in (None, len(spec.groups)), sorted(spec.groups)
    assert moving_share(model, spec) > 0.97
    reasons = {reason for found in spec.reasons.values() for reason in found.values()}
    assert not [reason for reason in reasons if "no rule" in reason]


def test_gpt2_has_fused_rows_and_a_tied_head():
    _, spec, _ = find("GPT2")
    text = {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}
    stream = text["transformer.ln_f.weight"]
    rows = text["transformer.h.0.attn.c_attn.bias"]
    q, k, v = rows.strip("()").split(" + ")
    assert q == k
    assert q.split()[0] == v.split()[0]
    assert text["transformer.h.0.attn.c_attn.weight"] == f"{stream} {rows}"
    assert text["transformer.h.0.attn.c_proj.weight"] == f"({v}) {stream}"
    assert text["lm_head.weight"] == text["transformer.wte.weight"] == f". {stream}"
    assert text["transformer.wpe.weight"] == f". {stream}"


@pytest.mark.slow
def test_t5_has_one_permutation_of_heads_for_a_stack_that_shares_its_bias():
    _, spec, _ = find("T5")
    text = {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    heads = text[bias].split()[1]
    for layer in (0, 1):
        assert text[f"encoder.block.{layer}.layer.0.SelfAttention.k.weight"].startswith(
            f"({heads} "
        )


@pytest.mark.slow
def test_a_large_llama_needs_no_memory_for_its_weights():
    config = transformers.LlamaConfig(**{**SHARED, "hidden_size": 4096, "num_hidden_layers": 3})
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    spec = discover(model, DECODER, select=lambda out: out.logits)
    assert len(spec.groups) == 1 + 3 * 4
