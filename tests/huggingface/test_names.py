"""Folders read through the names of the model; the witness is `from_pretrained` on the same."""

import re

import pytest
import torch
from folders import (
    CASES,
    CLASSES,
    GPT2,
    GROUPED,
    TEXT,
    VISION,
    Case,
    made,
    read,
    transformers,
    write,
)
from safetensors.torch import load_file, save_file

from symport.errors import ParamsError
from symport.huggingface import Family, quiet_transformers
from symport.huggingface._names import open_named


def family_of(case, folder) -> Family:
    model = read(case, folder)
    return Family(type(model), model.config)


@pytest.mark.parametrize("name", CASES)
def test_a_folder_has_the_tensors_that_transformers_loads(name, tmp_path):
    case = CASES[name]
    model = read(case, write(case, tmp_path))
    expected = model.state_dict()
    with open_named(tmp_path, Family(type(model), model.config).names) as found:
        seen = {expected[name].data_ptr() for name in found.tensors}
        assert seen == {tensor.data_ptr() for tensor in expected.values()}
        for key, tensor in found.tensors.items():
            assert torch.equal(tensor, expected[key]), key
            like = found.tensors.outline()[key]
            assert (like.shape, like.dtype) == (tensor.shape, tensor.dtype)
            if tensor.ndim:
                rows = [found.tensors.rows(key, k, k + 1) for k in range(len(tensor))]
                assert torch.equal(torch.cat(rows), tensor)


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_back_is_what_was_there(name, tmp_path):
    case = CASES[name]
    family = family_of(case, write(case, tmp_path))
    with open_named(tmp_path, family.names) as found:
        written = dict(found.repacked(found.tensors.items()))
        kept = {key: t for key, t in found.file.items() if key not in case.extra}
        kept = {key: t for key, t in kept.items() if key not in found.left_out}
        assert written.keys() == kept.keys()
        assert all(torch.equal(written[key], tensor) for key, tensor in kept.items())
        outline = found.layout(found.tensors.outline())
        assert {k: t.shape for k, t in outline.items()} == {k: t.shape for k, t in kept.items()}


def spoil(folder, drop=(), add=None, rename=lambda name: name) -> None:
    """Take tensors out of the file, put zeros in, or rename."""
    path = folder / "model.safetensors"
    state = {rename(name): t for name, t in load_file(path).items() if name not in drop}
    assert len(load_file(path)) == len(state) + len(drop)
    zeros = {name: torch.zeros(shape) for name, shape in (add or {}).items()}
    save_file(state | zeros, path, {"format": "pt"})


def opened(folder, family, **options):
    with open_named(folder, family.names, **options) as found:
        return found


LACKING = [
    ("llama", "model.layers.1.mlp.up_proj.weight"),
    ("llama", "model.norm.weight"),
    ("llama", "model.embed_tokens.weight"),
    ("llama tied", "model.embed_tokens.weight"),
    ("llama bare", "layers.0.self_attn.q_proj.weight"),
    ("mixtral", "model.layers.0.block_sparse_moe.experts.1.w1.weight"),
    ("mixtral", "model.layers.1.block_sparse_moe.experts.2.w2.weight"),
    ("gpt2 of the hub", "h.1.ln_1.bias"),
    ("sentence encoder", "encoder.layer.0.output.LayerNorm.weight"),
    ("t5", "shared.weight"),
    ("t5", "decoder.block.1.layer.2.layer_norm.weight"),
    ("vit", "vit.embeddings.cls_token"),
    ("resnet", "resnet.embedder.embedder.normalization.running_mean"),
    ("clip", "vision_model.post_layernorm.weight"),
    ("wav2vec2", "wav2vec2.encoder.layer_norm.weight"),
]


@pytest.mark.parametrize(("name", "lost"), LACKING)
@pytest.mark.parametrize("base", [True, False])
def test_a_missing_tensor_of_the_body_is_named_with_its_file(name, lost, base, tmp_path):
    family = family_of(CASES[name], write(CASES[name], tmp_path))
    spoil(tmp_path, [lost])
    end = re.escape(lost.rpartition(".block_sparse_moe")[2].split("transformer.")[-1])
    with pytest.raises(ParamsError, match=rf"{re.escape(str(tmp_path))}.*lacks .*{end}"):
        opened(tmp_path, family, base=base)


@pytest.mark.parametrize(
    ("name", "extra", "base"),
    [
        ("llama", {"model.layers.2.mlp.up_proj.weight": (24, 16)}, True),
        ("llama", {"model.layers.0.self_attn.q_proj.bias": (16,)}, True),
        ("llama", {"model.layers.0.self_attn.q_proj.lora_A.weight": (2, 16)}, True),
        ("llama", {"model.layers.0.self_attn.q_norm.weight": (16,)}, True),
        ("bert", {"bert.encoder.layer.0.attention.self.query.scale": (1,)}, True),
        ("bert", {"classifier.dense.weight": (16, 16)}, False),
        ("gpt2 of the hub", {"h.7.ln_1.weight": (16,)}, True),
    ],
)
def test_what_stands_where_the_model_has_a_module_is_refused(name, extra, base, tmp_path):
    family = family_of(CASES[name], write(CASES[name], tmp_path))
    spoil(tmp_path, add=extra)
    (key,) = extra
    with pytest.raises(ParamsError, match=rf"model.safetensors: has {re.escape(key)}, and"):
        opened(tmp_path, family, base=base)


@pytest.mark.parametrize(
    ("kind", "options", "saved_by", "new", "left"),
    [
        ("LlamaForSequenceClassification", GROUPED, "LlamaForCausalLM", {"score.weight"},
         {"lm_head.weight"}),
        ("BertForSequenceClassification", CLASSES, "BertModel",
         {"classifier.weight", "classifier.bias"}, set()),
        # saved without a pooler, which the classifier trained anew
        ("BertForSequenceClassification", CLASSES, "BertForMaskedLM",
         {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight",
          "bert.pooler.dense.bias"}, "cls."),
        ("BertModel", TEXT, "BertForMaskedLM", {"pooler.dense.weight", "pooler.dense.bias"},
         "cls."),
        ("ViTForImageClassification", VISION, "ViTModel",
         {"classifier.weight", "classifier.bias"}, "pooler."),
        ("ViTForImageClassification", VISION, "ViTForMaskedImageModeling",
         {"classifier.weight", "classifier.bias"}, ("decoder.", "vit.embeddings.mask_token")),
        ("GPT2ForSequenceClassification", GPT2, "GPT2LMHeadModel", {"score.weight"}, set()),
    ],
)  # fmt: skip
def test_the_heads_of_a_base_are_its_own(kind, options, saved_by, new, left, tmp_path):
    """What `from_pretrained` would draw at random is new, and what it ignores is left out."""
    case = Case(kind, options, saved_by)
    write(case, tmp_path)
    family = Family(getattr(transformers, kind), made(case).config)
    with quiet_transformers():
        _, info = family.kind.from_pretrained(tmp_path, output_loading_info=True)
    found = opened(tmp_path, family, base=True)
    assert found.absent == set(info["missing_keys"]) == new
    assert not found.absent & set(found.tensors)
    if isinstance(left, set):
        assert set(found.left_out) == left
    else:
        assert found.left_out
        assert all(name.startswith(left) for name in found.left_out)
    with pytest.raises(ParamsError, match="lacks .*" + min(new, key=len).split(".")[0]):
        opened(tmp_path, family)


def test_a_part_that_is_cut_short_is_not_a_new_one(tmp_path):
    """Bases without a pooler are known, bases with half of one are broken."""
    family = family_of(CASES["bert"], write(CASES["bert"], tmp_path))
    spoil(tmp_path, ["bert.pooler.dense.weight"])
    with pytest.raises(ParamsError, match=r"lacks bert\.pooler\.dense\.weight"):
        opened(tmp_path, family, base=True)


def test_two_names_for_one_tensor_are_refused(tmp_path):
    family = family_of(CASES["bert"], write(CASES["bert"], tmp_path))
    spoil(tmp_path, add={"embeddings.LayerNorm.weight": (16,)})
    with pytest.raises(ParamsError, match=r"are both bert\.embeddings\.LayerNorm\.weight"):
        opened(tmp_path, family)


def test_experts_are_read_row_by_row(tmp_path, monkeypatch):
    """Of a fused tensor only the experts that are asked for leave the disk."""
    family = family_of(CASES["mixtral"], write(CASES["mixtral"], tmp_path))
    with open_named(tmp_path, family.names) as found:
        reading = []
        plain = type(next(iter(found.file.readers.values()))).rows
        monkeypatch.setattr(
            "symport.io._checkpoint.ShardTensor.rows",
            lambda self, *rows: reading.append(self.name) or plain(self, *rows),
        )
        found.tensors.rows("model.layers.0.mlp.experts.gate_up_proj", 1, 2)
    names = "model.layers.0.block_sparse_moe.experts.1.w{}.weight"
    assert sorted(reading) == [names.format(k) for k in (1, 3)]
