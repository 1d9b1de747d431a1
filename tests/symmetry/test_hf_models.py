"""Models of transformers with tiny random configurations: what single tensors do."""

import pytest
import torch

from symport.spec import show_pattern
from symport.symmetry import discover
from symport_recipes.experiments._architectures import measure
from symport_recipes.networks import ZOO
from symport_recipes.networks.zoo._transformers import DECODER, SHARED, build, scores

transformers = pytest.importorskip("transformers")

BY_NAME = {architecture.name: architecture for architecture in ZOO}


def patterns(name):
    spec = measure(BY_NAME[name]).spec
    return {tensor: show_pattern(pattern) for tensor, pattern in spec.patterns.items()}


def test_gpt2_has_fused_rows_and_a_tied_head():
    text = patterns("GPT2")
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
    text = patterns("T5")
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
@pytest.mark.parametrize("dora", [False, True])
def test_a_model_that_peft_wraps_has_the_ranks_of_its_adapters_besides(dora):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=dora)
    model = peft.get_peft_model(build("Llama"), config)
    spec = discover(model, dict(DECODER), strict=True, select=scores)
    assert len(spec.groups) == 1 + 2 * (4 + 3)
    ranks = [name for name, group in spec.groups.items() if group.size == 3]
    assert len(ranks) == 2 * 3
    layer = "base_model.model.model.layers.0.self_attn.v_proj"
    rows = spec.patterns[f"{layer}.base_layer.weight"][0]
    assert spec.patterns[f"{layer}.lora_B.default.weight"][0] == rows
