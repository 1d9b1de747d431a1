"""Models of transformers with tiny random configurations."""

import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor, nn

from symport.errors import SettingsError

Inputs: TypeAlias = Mapping[str, Tensor | bool]


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(0))


TOKENS = torch.tensor([[5, 9, 33, 8, 7, 41, 12], [6, 6, 10, 50, 21, 30, 14]])
PIXELS: Inputs = {"pixel_values": _random(2, 3, 16, 16)}
LARGE: Inputs = {"pixel_values": _random(1, 3, 64, 64)}
TEXT: Inputs = {"input_ids": TOKENS}
DECODER: Inputs = {**TEXT, "use_cache": False}
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 32, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHARED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2}
HEADS: dict[str, Any] = {**SHARED, "head_dim": 4}
EXPERTS: dict[str, Any] = {**SHARED, "num_experts_per_tok": 2}
GPT2: dict[str, Any] = {
    "vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
}
VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
          "num_attention_heads": 4, "image_size": 16, "patch_size": 4}  # fmt: skip

# Groups: the stream and, for each of two layers, heads (of keys), query heads or units of queries
# and keys where nothing pins them, units of values, and hidden units.
CASES: dict[str, tuple[str, Mapping[str, Any], Inputs, int]] = {
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
              DECODER, 1 + 2 * 3),  # its heads stay, in all layers at once
    "Bert": ("BertForMaskedLM", SIZES, TEXT, 1 + 2 * 4),
    "Roberta": ("RobertaForMaskedLM", SIZES, TEXT, 1 + 2 * 4),
    "DistilBert": ("DistilBertForMaskedLM",
                   {"vocab_size": 64, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4},
                   TEXT, 1 + 2 * 4),
    "T5": ("T5ForConditionalGeneration", T5,
           # One stream (tied embedding); heads: encoder and decoder one set each (a shared table of
           # positions), across 2; 6 attentions with units of q and k and of v; 4 hidden layers.
           {**DECODER, "decoder_input_ids": TOKENS}, 1 + 2 + 2 + 6 * 2 + 4),
    "ViT": ("ViTForImageClassification", VISION, PIXELS, 1 + 2 * 4),
    "DeiT": ("DeiTForImageClassification", VISION, PIXELS, 1 + 2 * 4),
    "Swin": ("SwinForImageClassification",
             {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 2],
              "num_heads": [2, 4], "window_size": 4},
             PIXELS, 2 + 4 * 4),  # a stream for each stage; 4 blocks as above
    "ConvNext": ("ConvNextForImageClassification",
                 {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]},
                 LARGE, 4 + 5),  # a stream for each stage, a hidden layer for each block
    "EfficientNet": ("EfficientNetForImageClassification",
                     {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320,
                      "image_size": 64},
                     # Stem, 7 stages, 10 blocks (1, 1, 1, 2, 2, 2, 1) of which the first does not
                     # widen, a squeeze in each, head.
                     LARGE, 1 + 7 + 9 + 10 + 1),
    "Mixtral": ("MixtralForCausalLM",
                {**EXPERTS, "num_local_experts": 4, "experts_implementation": "batched_mm"},
                DECODER, 1 + 2 * 5),  # experts, and hidden units inside each
    "Qwen3Moe": ("Qwen3MoeForCausalLM",
                 {**EXPERTS, "head_dim": 4, "num_experts": 4, "moe_intermediate_size": 12,
                  "experts_implementation": "batched_mm"}, DECODER, 1 + 2 * 5),
    "Qwen2Moe": ("Qwen2MoeForCausalLM",
                 {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 12,
                  "shared_expert_intermediate_size": 10, "experts_implementation": "batched_mm"},
                 DECODER, 1 + 2 * 6),  # a shared expert besides
    "Olmoe": ("OlmoeForCausalLM",
              {**EXPERTS, "num_experts": 4, "experts_implementation": "batched_mm"},
              DECODER, 1 + 2 * 5),
    "GptOss": ("GptOssForCausalLM",
               {**EXPERTS, "head_dim": 4, "num_local_experts": 4, "sliding_window": 3,
                "experts_implementation": "batched_mm"}, DECODER, 1 + 2 * 5),
    "Whisper": ("WhisperForConditionalGeneration",
                {"vocab_size": 64, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
                 "encoder_attention_heads": 4, "decoder_attention_heads": 4,
                 "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8,
                 "max_source_positions": 12, "max_target_positions": 16, "pad_token_id": 0,
                 "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
                {"input_features": _random(2, 8, 24), "decoder_input_ids": TOKENS,
                 # First convolution, 2 streams; heads and two kinds of units in 6 attentions.
                 "use_cache": False}, 1 + 2 + 6 * 3 + 4),
    "DeepseekV3": ("DeepseekV3ForCausalLM",
                   {**SIZES, "moe_intermediate_size": 8, "num_key_value_heads": 4,
                    "n_routed_experts": 12, "n_group": 4, "topk_group": 2,
                    "num_experts_per_tok": 2, "kv_lora_rank": 6, "q_lora_rank": 5,
                    "qk_rope_head_dim": 4, "qk_nope_head_dim": 3, "v_head_dim": 5,
                    "first_k_dense_replace": 1, "experts_implementation": "batched_mm"},
                   # Stream; 2 attentions: latents of q and of kv, heads, unrotated units of q, k,
                   # units of v; dense layer; routing groups, experts, hidden units, shared expert.
                   DECODER, 1 + 2 * 5 + 1 + 4),
    "CLIP": ("CLIPModel",
             {"text_config": {**SIZES, "num_hidden_layers": 2, "vocab_size": 64},
              "vision_config": VISION, "projection_dim": 12},
             {**TEXT, **PIXELS}, 2 + 1 + 4 * 4),  # 2 streams, their common space, 4 layers
    "Mamba": ("MambaForCausalLM",
              {"vocab_size": 64, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2,
               "time_step_rank": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
              DECODER, 1 + 2 * 3),  # inner channels, state channels, rank of the time step
}  # fmt: skip


MOVING = {"DeepseekV3": ("model.layers.1.mlp.gate.e_score_correction_bias",)}
NOTES = {
    "Bloom": "its heads differ by constants (ALiBi) and are fixed; the units within them move",
    "DeepseekV3": "experts and routing groups move only if the correction bias, a buffer, is "
    "named in `moving`, as the command line does for a folder; experts move within routing groups "
    "only if more than one group is selected for each token",
}


def build(name: str) -> nn.Module:
    """A model with random weights.

    Raises:
        SettingsError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise SettingsError(f"{name} needs transformers: pip install 'symport[hf]'") from error
    kind, settings, _, _ = CASES[name]
    cls = getattr(transformers, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers says is not ours
        return cls(cls.config_class(**settings))


def scores(output: Any) -> Tensor:
    """The logits, or those of each pair of a text and an image."""
    found = getattr(output, "logits", None)
    return output.logits_per_image if found is None else found
