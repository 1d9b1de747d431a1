"""Tiny models of many architectures in the layouts that are found on the hub."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import drawn

from symport.huggingface import quiet_transformers

transformers = pytest.importorskip("transformers")

TEXT = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 32, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
GROUPED = {**TEXT, "num_key_value_heads": 2}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "image_size": 16,
          "num_attention_heads": 4, "patch_size": 8, "num_labels": 3}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4,
        "bos_token_id": 1, "eos_token_id": 1}  # fmt: skip
CLASSES = {**TEXT, "num_labels": 3}
EXPERTS = {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}
CONV = {"num_channels": 3, "num_labels": 3}


@dataclass(frozen=True)
class Case:
    """An architecture, and how its file differs from what `save_pretrained` writes.

    Attributes:
        kind: The class that reads the folder.
        options: Of its configuration.
        saved_by: The class that wrote it, if that is another one.
        prefix: Removed from the names, or put before them if it starts with "+".
        extra: What the file has besides: names and shapes.
        renamed: Pieces of names that older versions had.
    """

    kind: str
    options: dict = field(default_factory=lambda: dict(TEXT))
    saved_by: str | None = None
    prefix: str = ""
    extra: dict[str, tuple[int, ...]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)


CASES = {
    "llama": Case("LlamaForCausalLM", GROUPED),
    "llama tied": Case("LlamaForCausalLM", {**GROUPED, "tie_word_embeddings": True}),
    "llama with frequencies": Case(
        "LlamaForCausalLM", GROUPED, extra={"model.layers.0.self_attn.rotary_emb.inv_freq": (2,)}
    ),
    "llama bare": Case("LlamaModel", GROUPED),
    "mistral": Case("MistralForCausalLM", {**GROUPED, "head_dim": 4}),
    "mixtral": Case("MixtralForCausalLM", EXPERTS),
    "qwen2": Case("Qwen2ForCausalLM", {**GROUPED, "tie_word_embeddings": True}),
    "qwen2 experts": Case(
        "Qwen2MoeForCausalLM",
        {**GROUPED, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
         "shared_expert_intermediate_size": 12},
    ),
    "gemma": Case("GemmaForCausalLM", {**GROUPED, "head_dim": 4}),
    "phi3": Case("Phi3ForCausalLM", GROUPED),
    "gpt2": Case("GPT2LMHeadModel", GPT2),
    "gpt2 of the hub": Case(
        "GPT2LMHeadModel", GPT2, prefix="transformer.", extra={"h.0.attn.bias": (1, 1, 16, 16)}
    ),
    "neox": Case(
        "GPTNeoXForCausalLM", TEXT, extra={"gpt_neox.layers.0.attention.bias": (1, 1, 32, 32),
                                           "gpt_neox.layers.0.attention.masked_bias": ()},
    ),
    "opt": Case(
        "OPTForCausalLM",
        {"vocab_size": 40, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 32, "word_embed_proj_dim": 16},
    ),
    "bert": Case("BertForSequenceClassification", CLASSES),
    "bert bare": Case("BertModel"),
    "sentence encoder": Case("BertModel", extra={"embeddings.position_ids": (1, 32)}),
    "bert of 2018": Case(
        "BertForMaskedLM",
        renamed={"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"},
    ),
    "bert written by another head": Case("BertModel", saved_by="BertForPreTraining"),
    "roberta": Case("RobertaForSequenceClassification", CLASSES),
    "vit": Case("ViTForImageClassification", VISION),
    "vit bare": Case("ViTModel", VISION),
    "t5": Case(
        "T5ForConditionalGeneration",
        {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4},
    ),
    "clip": Case(
        "CLIPModel",
        {"text_config": {**TEXT, "projection_dim": 8}, "vision_config": VISION,
         "projection_dim": 8},
    ),
    "wav2vec2": Case(
        "Wav2Vec2ForCTC",
        {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 4, "conv_dim": (8, 8), "conv_stride": (2, 2),
         "conv_kernel": (3, 3), "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
    ),
    "resnet": Case(
        "ResNetForImageClassification",
        {**CONV, "hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8},
    ),
    "convnext": Case(
        "ConvNextForImageClassification",
        {**CONV, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
    ),
    "mobilenet": Case("MobileNetV2ForImageClassification", {**CONV, "depth_multiplier": 0.25}),
}  # fmt: skip


def made(case: Case, seed: int = 0, kind: str | None = None):
    family = getattr(transformers, kind or case.kind)
    return drawn(family, family.config_class(**case.options), seed)


def write(case: Case, folder: Path, seed: int = 0) -> Path:
    """A folder in the layout of the case; its configuration names the class that reads it."""
    with quiet_transformers():
        made(case, seed, case.saved_by).save_pretrained(folder)
    if case.saved_by:
        made(case).config.save_pretrained(folder)
    path = folder / "model.safetensors"
    state = {named(case, name): tensor for name, tensor in load_file(path).items()}
    extra = {name: torch.ones(shape) for name, shape in case.extra.items()}
    save_file(state | extra, path, {"format": "pt"})
    return folder


def named(case: Case, name: str) -> str:
    for piece, older in case.renamed.items():
        name = name.replace(piece, older)
    return name.removeprefix(case.prefix)


def read(case: Case, folder: Path):
    """The library itself loads the folder; it must have found every tensor."""
    with quiet_transformers():
        model, info = getattr(transformers, case.kind).from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32
        )
    assert not info["missing_keys"], info["missing_keys"]
    return model.eval()
