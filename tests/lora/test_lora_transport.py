"""Adapters against PEFT itself: what it loads, what it merges, and what a symmetry must leave."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from symport.errors import FileError, ParamsError, SpecError
from symport.lora import (
    Adapter,
    displacement,
    load_adapter,
    save_adapter,
    targets,
    transport_adapter,
)
from symport.outofcore import transport
from symport.params import add
from symport.spec import Permutation, PermutationSpec, permute
from symport.symmetry import discover

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's advice on saving embeddings

LLAMA = {
    "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
GPT2 = {"vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}
BERT = {
    "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 12,
}  # fmt: skip
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**BERT)),
    "conv": lambda: Conv(),
}
CASES = {
    "plain": ("llama", {"target_modules": "all-linear", "lora_alpha": 3}),
    "patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"],
            "use_rslora": True,
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"layers.1.mlp.down_proj": 7, "q_proj": 5},
        },
    ),
    "embeddings": ("llama", {"target_modules": ["embed_tokens", "lm_head", "gate_proj"]}),
    "dora": ("llama", {"target_modules": ["q_proj", "k_proj", "up_proj"], "use_dora": True}),
    "whole": ("llama", {"target_modules": ["v_proj"], "modules_to_save": ["norm", "lm_head"]}),
    "added": ("bert", {"target_modules": ["query", "intermediate.dense"], "lora_bias": True}),
    "head": ("bert", {"target_modules": ["key", "value"], "task_type": "SEQ_CLS"}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "biases": (
        "gpt2",
        {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "bias": "all"},
    ),
    "own biases": ("gpt2", {"target_modules": ["c_fc"], "bias": "lora_only", "use_dora": True}),
    "kernels": ("conv", {"target_modules": ["a", "b", "d"]}),
    "dora kernels": ("conv", {"target_modules": ["a", "b"], "use_dora": True}),
}


class Conv(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, (1, 3))
        self.d = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.b(self.a(x).relu()).relu().mean((2, 3)))


@cache
def made(kind: str, seed: int = 0) -> tuple[dict[str, Tensor], PermutationSpec]:
    """Weights large enough to matter, and the symmetry."""
    model = MODELS[kind]().eval()
    generator = Generator().manual_seed(seed)
    params = {
        name: (tensor + 0.2 * torch.randn(tensor.shape, generator=generator))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(params)
    if kind == "conv":
        return model.state_dict(), discover(model, inputs(kind))
    model.config.use_cache = False
    spec = discover(model, {"input_ids": inputs(kind)}, select=lambda output: output.logits)
    return model.state_dict(), spec


def inputs(kind: str) -> Tensor:
    generator = Generator().manual_seed(3)
    if kind == "conv":
        return torch.randn(2, 3, 5, 5, generator=generator)
    return torch.randint(20, (3, 9), generator=generator)


def build(kind: str, params: dict[str, Tensor]) -> nn.Module:
    model = MODELS[kind]().eval()
    model.load_state_dict(params)
    return model


def outputs(kind: str, model: nn.Module) -> Tensor:
    with torch.no_grad():
        found = model.eval()(inputs(kind))
    return found if kind == "conv" else found.logits


def through_peft(kind: str, params: dict[str, Tensor], adapter: Adapter, folder: Path) -> Any:
    """The base under the adapter, as PEFT loads it; it passes on the methods of its tuner."""
    save_adapter(folder, adapter)
    return peft.PeftModel.from_pretrained(build(kind, params), folder)


def drawn(case: str, folder: Path) -> tuple[str, Adapter]:
    """An adapter that PEFT made and saved, its tensors changed at random."""
    kind, settings = CASES[case]
    config = peft.LoraConfig(r=3, **settings)
    peft.get_peft_model(build(kind, made(kind)[0]), config).save_pretrained(folder / "made")
    adapter = load_adapter(folder / "made")
    generator = Generator().manual_seed(1)
    noise = {
        name: 0.1 * torch.randn(t.shape, generator=generator) for name, t in adapter.tensors.items()
    }
    return kind, replace(adapter, tensors=add(adapter.tensors, noise))


def element(spec: PermutationSpec) -> Permutation:
    return Permutation.random(spec, Generator().manual_seed(2))


@pytest.mark.parametrize("case", CASES)
def test_a_symmetry_of_base_and_adapter_leaves_the_function(case: str, tmp_path: Path):
    kind, adapter = drawn(case, tmp_path)
    params, spec = made(kind)
    moved = transport_adapter(adapter, spec, element(spec))
    for key, tensor in adapter.tensors.items():
        assert (moved.tensors[key].shape, moved.tensors[key].dtype) == (tensor.shape, tensor.dtype)
    before = outputs(kind, through_peft(kind, params, adapter, tmp_path / "a"))
    there = permute(params, spec, element(spec))
    after = outputs(kind, through_peft(kind, there, moved, tmp_path / "b"))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    assert not torch.allclose(before, outputs(kind, build(kind, params)), atol=1e-3)
    unmoved = outputs(kind, through_peft(kind, there, adapter, tmp_path / "c"))
    assert not torch.allclose(unmoved, before, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_displacement_is_what_peft_merges(case: str, tmp_path: Path):
    kind, adapter = drawn(case, tmp_path)
    params, _ = made(kind)
    merged = through_peft(kind, params, adapter, tmp_path / "a").merge_and_unload().state_dict()
    change = displacement(adapter, params)
    tied = {"lm_head.weight", "transformer.wte.weight"}
    expected = {name for name in params if not torch.equal(merged[name], params[name])}
    assert expected - tied <= change.keys()
    for name in change:
        torch.testing.assert_close(params[name] + change[name], merged[name], msg=name)


@pytest.mark.parametrize("case", CASES)
def test_the_identity_gives_back_the_same_bytes(case: str, tmp_path: Path):
    kind, adapter = drawn(case, tmp_path)
    params, spec = made(kind)
    identity = Permutation.identity(spec)
    for name, bases in (("without", None), ("with", params)):
        moved = transport_adapter(adapter, spec, identity, old_base=bases, new_base=bases)
        save_adapter(tmp_path / name, moved)
        again = load_adapter(tmp_path / name)
        assert again.config == adapter.config
        assert again.tensors.keys() == adapter.tensors.keys()
        assert all(torch.equal(again.tensors[k], t) for k, t in adapter.tensors.items())


@pytest.mark.parametrize("case", ["plain", "patterns", "embeddings", "whole", "biases", "kernels"])
def test_on_another_base_the_change_is_that_of_the_whole_fine_tune(case: str, tmp_path: Path):
    kind, adapter = drawn(case, tmp_path)
    (old, spec), (new, _) = made(kind), made(kind, seed=1)
    g = element(spec)
    moved = transport_adapter(adapter, spec, g, scale=0.6, old_base=old, new_base=new)
    found = add(new, displacement(moved, new))
    tuned = add(old, displacement(adapter, old))
    expected = dict(transport(old, tuned, new, spec, g, scale=0.6))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_dora_on_another_base_keeps_the_change_of_each_norm(tmp_path: Path):
    kind, adapter = drawn("dora", tmp_path)
    (old, spec), (new, _) = made(kind), made(kind, seed=1)
    g = element(spec)
    name = "model.layers.0.self_attn.q_proj.weight"
    key = f"base_model.model.{name.removesuffix('weight')}lora_magnitude_vector"
    for scale in (1.0, 0.5, 0.0):
        moved = transport_adapter(adapter, spec, g, scale=scale, old_base=old, new_base=new)
        share = adapter.tensors[key] / old[name].norm(dim=1)
        there = permute({name: share[:, None].expand(old[name].shape)}, spec, g, partial=True)[
            name
        ][:, 0]
        expected = new[name].norm(dim=1) * (1 + scale * (there - 1))
        torch.testing.assert_close(moved.tensors[key], expected)
    still = displacement(moved, new)
    assert all(float(change.abs().max()) < 1e-6 for change in still.values())


def test_a_new_head_is_carried_whole_at_any_length(tmp_path: Path):
    kind, adapter = drawn("head", tmp_path)
    params, spec = made(kind)
    old = {name: tensor for name, tensor in params.items() if "classifier" not in name}
    g, key = element(spec), "base_model.model.classifier.weight"
    moved = transport_adapter(adapter, spec, g, scale=0.5, old_base=old, new_base=old)
    head = {"classifier.weight": adapter.tensors[key]}
    assert torch.equal(
        moved.tensors[key], permute(head, spec, g, partial=True)["classifier.weight"]
    )
    with pytest.raises(ParamsError, match=r"holds classifier.* a scale of 0.5 needs old_base"):
        transport_adapter(adapter, spec, g, scale=0.5)


def test_scaling_follows_rank_and_patterns(tmp_path: Path):
    found = targets(drawn("patterns", tmp_path)[1])
    prefix = "model.layers.1."
    assert found[f"{prefix}self_attn.v_proj.weight"].scaling == pytest.approx(8 / 2**0.5)
    assert found[f"{prefix}mlp.down_proj.weight"].scaling == pytest.approx(7 / 3**0.5)
    assert found[f"{prefix}self_attn.q_proj.weight"].scaling == pytest.approx(5 / 3**0.5)
    assert found["model.layers.0.mlp.down_proj.weight"].scaling == pytest.approx(8 / 3**0.5)


def test_weights_that_are_stored_inputs_first_are_told_by_their_shape(tmp_path: Path):
    kind, adapter = drawn("conv1d", tmp_path)
    params, _ = made(kind)
    wrong = replace(adapter, config={**adapter.config, "fan_in_fan_out": False})
    names = [name for name in targets(adapter) if "attn.c_proj" not in name]  # square
    shapes = {name: tensor.shape for name, tensor in params.items()}
    assert all(targets(wrong, shapes)[name].transposed for name in names)


# Adapters that cannot be carried over ------------------------------------------------------------


def changed(adapter: Adapter, **fields: object) -> Adapter:
    return replace(adapter, config={**adapter.config, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "of type IA3; only LORA"),
        ({"target_parameters": ["experts.down_proj"]}, "fused expert tensors"),
        ({"trainable_token_indices": [1]}, "single rows of the embedding"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "uses layer_replication"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "started by pissa_niter_4, which changed its base",
        ),
    ],
)
def test_what_is_not_plain_lora_is_refused_with_the_reason(fields, message: str, tmp_path: Path):
    kind, adapter = drawn("kernels", tmp_path)
    params, spec = made(kind)
    with pytest.raises(ParamsError, match=message):
        transport_adapter(changed(adapter, **fields), spec, element(spec))
    with pytest.raises(ParamsError, match=message):
        displacement(changed(adapter, **fields), params)


def test_tensors_that_do_not_fit_together_are_refused_by_name(tmp_path: Path):
    kind, adapter = drawn("kernels", tmp_path)
    params, spec = made(kind)
    g, key = element(spec), "base_model.model.d.lora_B.weight"

    def refuse(message: str, tensors: dict[str, Tensor], error: type = ParamsError, **bases):
        with pytest.raises(error, match=message):
            transport_adapter(Adapter(adapter.config, tensors), spec, g, **bases)

    own = dict(adapter.tensors)
    refuse("d.weight: the adapter lacks its factor B", {k: t for k, t in own.items() if k != key})
    refuse("have no rank in common", {**own, key: own[key][:, :1]})
    refuse("lora_E: not a tensor of plain LoRA", {**own, "base_model.model.d.lora_E": own[key]})
    refuse("transformer.d.up: not a tensor", {"transformer.d.up": own[key]})
    far = {k.replace("model.d", "model.other.d"): t for k, t in own.items()}
    refuse("the spec of the base has no other.d.weight: an adapter for another base", far)
    other = {**params, "d.weight": torch.ones(5, 6)}
    refuse(r"weight of \(4, 6\), outputs first, the base has \(5, 6\)", own, new_base=other)
    wide = {**own, "base_model.model.b.lora_A.weight": torch.ones(3, 9, 1, 3)}
    refuse(r"weight of \(6, 9, 1, 3\), outputs first, the base has \(6, 8, \?, \?\)", wide)
    with pytest.raises(
        ParamsError, match=r"the base has no d\.weight: an adapter for another base"
    ):
        displacement(adapter, {name: t for name, t in params.items() if "d." not in name})


def test_a_weight_whose_axes_move_together_has_no_product():
    spec = PermutationSpec.parse({"m.weight": "h h/u"}, sizes={"h": 4, "h/u": 3})
    tensors = {"base_model.model.m.lora_A.weight": torch.ones(2, 3)}
    tensors |= {"base_model.model.m.lora_B.weight": torch.ones(4, 2)}
    adapter = Adapter({"peft_type": "LORA", "lora_alpha": 2}, tensors)
    with pytest.raises(SpecError, match=r"m\.weight: its axes 'h h/u' can only be"):
        transport_adapter(adapter, spec, Permutation.identity(spec))


def test_broken_folders_are_refused(tmp_path: Path):
    with pytest.raises(FileError, match=r"adapter_config.json: cannot be read"):
        load_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{half")
    with pytest.raises(FileError, match="not JSON"):
        load_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(FileError, match="not the configuration of an adapter"):
        load_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(FileError, match=r"adapter_model.safetensors: cannot be read"):
        load_adapter(tmp_path)
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(FileError, match="is pickled, which can run any code"):
        load_adapter(tmp_path)
    with pytest.raises(FileError, match="give a new or an empty folder"):
        save_adapter(tmp_path, Adapter({}, {}))
