import json

import pytest
import torch

from symport.errors import FileError, SettingsError
from symport.huggingface import is_config, load_architecture
from symport.symmetry import discover

transformers = pytest.importorskip("transformers")

TINY = {
    "LlamaForCausalLM": {
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "ViTForImageClassification": {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 4, "image_size": 16, "patch_size": 4,
    },
    "T5ForConditionalGeneration": {
        "vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4,
    },
}  # fmt: skip


def saved(kind: str, folder):
    config = getattr(transformers, kind).config_class(**TINY[kind])
    config.architectures = [kind]
    config.save_pretrained(folder)
    return config


@pytest.mark.parametrize("kind", TINY)
def test_a_model_folder_gives_what_the_model_itself_gives(kind, tmp_path):
    config = saved(kind, tmp_path)
    found = load_architecture(str(tmp_path))
    assert all(tensor.is_meta for tensor in found.model.state_dict().values())
    without = discover(found.model, found.inputs, select=found.select)
    torch.manual_seed(0)
    config.use_cache = False
    real = getattr(transformers, kind)(config).eval()
    proven = discover(real, found.inputs, select=found.select, strict=True)
    assert str(without) == str(proven)


def test_experts_of_a_model_folder_move_with_the_units_inside_each(tmp_path):
    config = transformers.MixtralConfig(**TINY["LlamaForCausalLM"], num_local_experts=3)
    config.architectures = ["MixtralForCausalLM"]
    config.save_pretrained(tmp_path)
    found = load_architecture(str(tmp_path))
    spec = discover(found.model, found.inputs, select=found.select)
    assert (3, 24) in {spec.shape_of(name) for name in spec.groups}


def test_the_learned_bias_of_a_router_moves_with_its_experts(tmp_path):
    config = transformers.DeepseekV3Config(
        **{**TINY["LlamaForCausalLM"], "num_key_value_heads": 4}, moe_intermediate_size=8,
        n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=2, kv_lora_rank=6,
        q_lora_rank=5, qk_rope_head_dim=4, qk_nope_head_dim=3, v_head_dim=5,
        first_k_dense_replace=0,
    )  # fmt: skip
    config.architectures = ["DeepseekV3ForCausalLM"]
    config.save_pretrained(tmp_path)
    found = load_architecture(str(tmp_path))
    assert found.moving == ("model.layers.0.mlp.gate.e_score_correction_bias",)
    spec = discover(found.model, found.inputs, select=found.select, moving=found.moving)
    assert (4, 3, 8) in {spec.shape_of(name) for name in spec.groups}


def test_a_config_file_will_do_as_well_as_its_folder(tmp_path):
    saved("LlamaForCausalLM", tmp_path)
    assert is_config(str(tmp_path))
    assert is_config(str(tmp_path / "config.json"))
    assert not is_config("nets:mlp")
    assert not is_config(str(tmp_path / "missing.json"))


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(FileError, match="not a configuration that transformers knows"):
        load_architecture(str(tmp_path))
    path.write_text(json.dumps({"model_type": "llama", "architectures": ["MyOwnModel"]}))
    with pytest.raises(SettingsError, match="MyOwnModel"):
        load_architecture(str(tmp_path))
