"""The dtype of the computation finds the order; what is written is never rounded by it."""

import pytest
import torch
from cases import seeded
from safetensors.torch import load_file
from tiny import changed, examples, loaded, logits, make, trio

from symport.port import port
from symport.port.settings import make_settings

LLAMA, GPT2 = "LlamaForCausalLM", "GPT2LMHeadModel"


@pytest.mark.parametrize(
    "settings",
    [
        {"folds": 0, "steps": 1},
        {"folds": 0, "method": "identity"},
        pytest.param({"folds": 0, "method": "weights"}, marks=pytest.mark.slow),
    ],
)
def test_float32_files_stay_exact_under_bfloat16(settings, tmp_path):
    new = make(LLAMA) if settings.get("method") == "identity" else None
    files = trio(tmp_path, LLAMA, new=new)
    given = {**files, **settings, "dtype": "bfloat16", "examples": examples(LLAMA, tmp_path)}
    port(make_settings(given))
    expected = logits(changed(make(LLAMA)), LLAMA)
    assert (logits(loaded(LLAMA, files["out"]), LLAMA) - expected).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_so_does_what_an_adapter_holds_whole(tmp_path):
    peft = pytest.importorskip("peft")
    files = trio(tmp_path, LLAMA)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["norm", "lm_head"])
    model = peft.get_peft_model(make(LLAMA), config)
    for tensor in model.parameters():
        if tensor.requires_grad:
            tensor.data.add_(0.1 * torch.randn(tensor.shape, generator=seeded(2)))
    model.save_pretrained(tmp_path / "adapter")
    settings = {"folds": 0, "steps": 1, "dtype": "bfloat16", "examples": examples(LLAMA, tmp_path)}
    port(make_settings({**files, **settings, "tuned": str(tmp_path / "adapter")}))
    found = peft.PeftModel.from_pretrained(loaded(LLAMA, files["new_base"]), files["out"]).eval()
    assert (logits(found, LLAMA) - logits(model.eval(), LLAMA)).abs().max() < 1e-5


def test_so_they_do_by_activations(tmp_path):
    """Whatever order was found: each tensor is the new base's and a permuted displacement."""
    files = trio(tmp_path, GPT2, new=make(GPT2))
    inputs = examples(GPT2, tmp_path)
    given = {"method": "activations", "dtype": "bfloat16", "unlabelled": inputs}
    port(make_settings({**files, **given}))
    sides = ["old_base", "tuned", "new_base", "out"]
    old, tuned, new, out = (load_file(f"{files[k]}/model.safetensors") for k in sides)
    for name, tensor in out.items():
        moved = (tuned[name] - old[name]).norm()
        assert torch.isclose((tensor - new[name]).norm(), moved, rtol=1e-5), name
