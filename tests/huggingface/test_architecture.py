import json

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

from symport.cli._app import app
from symport.errors import FileError, SettingsError
from symport.huggingface import all_outputs, is_config, load_architecture
from symport.spec import Permutation, permute
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


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 4}  # fmt: skip
BERT = {**SMALL, "vocab_size": 64, "max_position_embeddings": 40}
SEQ = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 40, "pad_token_id": 0, "eos_token_id": 2,
    "bos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": 2,
}  # fmt: skip
WAVES = {**SMALL, "vocab_size": 32, "conv_dim": (8, 8), "conv_stride": (4, 4),
         "conv_kernel": (8, 8), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
         "num_conv_pos_embedding_groups": 2}  # fmt: skip
SERIES = {**SEQ, "prediction_length": 3, "context_length": 6, "lags_sequence": [1, 2],
          "num_time_features": 1}  # fmt: skip
SEVERAL = {
    "GPT2DoubleHeadsModel": {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 4,
                             "n_positions": 40, "bos_token_id": 1, "eos_token_id": 2},
    "BertForPreTraining": BERT,
    "BertForQuestionAnswering": BERT,
    "BertModel": BERT,
    "BartForConditionalGeneration": SEQ,
    "YolosForObjectDetection": {**SMALL, "image_size": [32, 32], "patch_size": 8,
                                "num_detection_tokens": 3},
    "CLIPModel": {
        "text_config": {**BERT, "eos_token_id": 2}, "projection_dim": 8,
        "vision_config": {**SMALL, "image_size": 16, "patch_size": 4},
    },
    "Wav2Vec2ForCTC": WAVES,
    "ASTForAudioClassification": {**SMALL, "max_length": 40, "num_mel_bins": 16},
    "PatchTSTForPrediction": {"num_input_channels": 2, "context_length": 16, "patch_length": 4,
                              "patch_stride": 4, "d_model": 16, "num_hidden_layers": 1,
                              "num_attention_heads": 4, "ffn_dim": 24, "prediction_length": 3},
}  # fmt: skip


def folder_of(kind: str, settings: dict, path) -> str:
    config = getattr(transformers, kind).config_class(**settings)
    config.architectures = [kind]
    config.save_pretrained(path)
    return str(path)


def drawn_weights(model) -> None:
    """Every weight anew, so that heads which begin tiny count as much as others."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise, alpha=0.3)


def floats(output) -> list:
    return [leaf for leaf in tree_leaves(output)
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]  # fmt: skip


@pytest.mark.parametrize("kind", SEVERAL)
def test_every_output_of_a_model_folder_stays_as_it_is(kind, tmp_path):
    found = load_architecture(folder_of(kind, SEVERAL[kind], tmp_path))
    spec = discover(found.model, found.inputs, select=found.select, moving=found.moving)
    model = getattr(transformers, kind)(found.model.config).eval().double()
    drawn_weights(model)
    inputs = {
        name: torch.randn(value.shape, dtype=torch.float64) if value.is_floating_point() else
        torch.randint(3, 60, value.shape) for name, value in found.inputs.items()
    }  # fmt: skip
    before = floats(model(**inputs))
    assert spec.groups
    for seed in range(2):
        element = Permutation.random(spec, torch.Generator().manual_seed(seed))
        other = getattr(transformers, kind)(found.model.config).eval().double()
        other.load_state_dict(permute(model.state_dict(), spec, element))
        for a, b in zip(before, floats(other(**inputs)), strict=True):
            # Some parts compute in float32 whatever the weights are.
            assert float((a - b).detach().abs().max() / a.detach().abs().max()) < 1e-5


def test_caches_are_left_out_and_nested_outputs_are_not():
    logits, hidden = torch.zeros(2), torch.ones(3)
    output = {"logits": logits, "past_key_values": hidden, "ids": torch.zeros(2, dtype=torch.int64),
              "parts": ({"hidden": hidden}, None), "loss": None}  # fmt: skip
    kept = all_outputs(output)
    assert list(kept) == ["logits", "parts"]
    assert kept["parts"][0] is hidden
    assert all_outputs((logits, [hidden]))[1] is hidden


@pytest.mark.parametrize("kind", ["MarianMTModel", "PegasusForConditionalGeneration"])
def test_permuted_weights_come_back_from_a_file_of_transformers(kind, tmp_path):
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**SEQ)).eval()
    tokens = torch.tensor([[5, 9, 33, 8], [6, 6, 10, 50]])
    inputs = {"input_ids": tokens, "decoder_input_ids": tokens, "use_cache": False}
    spec = discover(model, inputs, select=lambda out: out.logits, strict=True)
    model.save_pretrained(tmp_path / "plain")
    model.load_state_dict(
        permute(
            model.state_dict(), spec, Permutation.random(spec, torch.Generator().manual_seed(1))
        )
    )
    model.save_pretrained(tmp_path / "moved")
    plain, moved = (
        cls.from_pretrained(tmp_path / name, dtype=torch.float64).eval()(**inputs).logits.detach()
        for name in ("plain", "moved")
    )
    assert float((plain - moved).abs().max() / plain.abs().max()) < 1e-12
    if kind == "MarianMTModel":
        why = spec.reasons["model.encoder.embed_positions.weight"][1]
        assert "save_pretrained leaves it out" in why


def test_what_cannot_be_made_up_is_given_by_name(tmp_path):
    folder = folder_of("PatchTSTForPrediction", SEVERAL["PatchTSTForPrediction"], tmp_path)
    spec = tmp_path / "spec.json"
    given = tmp_path / "inputs.npz"
    np.savez(given, past_values=np.zeros((1, 16, 2), np.float32))
    command = ["discover", "--model", folder, "--save", str(spec)]
    made_up = CliRunner().invoke(app, command)
    assert made_up.exit_code == 0, made_up.output
    first = spec.read_text()
    named = CliRunner().invoke(app, [*command, "--inputs", str(given)])
    assert named.exit_code == 0, named.output
    assert spec.read_text() == first


def test_the_outputs_that_stay_are_told_and_can_be_chosen(tmp_path):
    folder = folder_of("BartForConditionalGeneration", SEQ, tmp_path)
    told = CliRunner().invoke(app, ["discover", "--model", folder])
    assert "logits, encoder_last_hidden_state; --outputs NAME" in " ".join(told.output.split())
    chosen = CliRunner().invoke(app, ["discover", "--model", folder, "--outputs", "logits"])
    assert chosen.exit_code == 0, chosen.output
    groups = [text.output.rsplit("groups: ")[-1].count(",") for text in (told, chosen)]
    assert groups[0] < groups[1]  # the stream of the encoder is free
    wrong = CliRunner().invoke(app, ["discover", "--model", folder, "--outputs", "scores"])
    assert wrong.exit_code != 0
    assert "scores" in str(wrong.exception)
    assert "logits" in str(wrong.exception)


def test_a_first_input_that_is_unknown_names_the_way_out(tmp_path):
    found = load_architecture(folder_of("BertModel", BERT, tmp_path))
    vars(found.model)["main_input_name"] = "smells"
    from symport.huggingface import example_inputs

    with pytest.raises(SettingsError, match=r"takes smells first.*--inputs FILE"):
        example_inputs(found.model, found.model.config)
