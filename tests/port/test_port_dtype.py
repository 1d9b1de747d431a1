"""The dtype of the computation finds the order; what is written is never rounded by it."""

import pytest
import torch
from cases import present, seeded
from safetensors.torch import load_file
from tiny import changed, examples, loaded, logits, make, trio

from symport.port import make_settings, port_fine_tune

LLAMA, GPT2 = "LlamaForCausalLM", "GPT2LMHeadModel"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


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
    port_fine_tune(make_settings(given))
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
    port_fine_tune(make_settings({**files, **settings, "tuned": str(tmp_path / "adapter")}))
    found = peft.PeftModel.from_pretrained(loaded(LLAMA, files["new_base"]), files["out"]).eval()
    assert (logits(found, LLAMA) - logits(model.eval(), LLAMA)).abs().max() < 1e-5


TRAINED = {"folds": 2, "steps": 1, "direct_steps": 4, "learning_rates": [1e-3], "scales": [0.5]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_trained_in_bfloat16_is_not_rounded_by_it(dtype, tmp_path):
    """Rows of tokens that no text has keep the bits of the file; norms near 1 move all the same.

    Half a unit in their last place is at least 1/512 in bfloat16, and a step of Adam 1/1000.
    """
    files = trio(tmp_path, LLAMA, new=make(LLAMA).to(dtype))
    given = {**files, **TRAINED, "method": "identity", "dtype": "bfloat16"}
    done = port_fine_tune(make_settings({**given, "examples": examples(LLAMA, tmp_path)}))
    outcome = present(done.outcome)
    plan = outcome.plans[outcome.pick]
    assert present(plan.training).steps == 4
    assert not [sentence for sentence in done.verdict if "round" in sentence]
    old, tuned, new, after = (
        loaded(LLAMA, files[side]).state_dict() for side in ("old_base", "tuned", "new_base", "out")
    )
    far = plan.scale if plan.step else 0
    before = {name: new[name] + far * (tuned[name] - old[name]) for name in new}
    if far == 1 and dtype == torch.float32:
        before = tuned  # on the old base itself, to the bit
    kept_rows = (before[EMBEDDING].to(dtype) == after[EMBEDDING]).all(1)
    assert 5 <= (~kept_rows).sum() <= 8  # a to e, the space, and perhaps the ends
    assert {t.dtype for t in load_file(f"{files['out']}/model.safetensors").values()} == {dtype}
    if dtype == torch.float32:
        assert not [name for name, t in after.items() if torch.equal(t, t.bfloat16().float())]
        moved = (after[NORM] - before[NORM]).abs()
        assert 0 < moved.min() <= moved.max() < 4.1e-3  # four steps


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*modules_to_save:UserWarning")
def test_neither_is_what_an_adapter_trains_whole(tmp_path):
    peft = pytest.importorskip("peft")
    files = trio(tmp_path, LLAMA, new=make(LLAMA))
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    model = peft.get_peft_model(make(LLAMA), config)
    for tensor in model.parameters():
        if tensor.requires_grad:
            tensor.data.add_(0.1 * torch.randn(tensor.shape, generator=seeded(2)))
    model.save_pretrained(tmp_path / "adapter")
    given = {**files, **TRAINED, "method": "identity", "tuned": str(tmp_path / "adapter")}
    given |= {"dtype": "bfloat16", "examples": examples(LLAMA, tmp_path)}
    done = port_fine_tune(make_settings(given))
    outcome = present(done.outcome)
    assert present(outcome.plans[outcome.pick].training).steps == 4
    found = peft.PeftModel.from_pretrained(loaded(LLAMA, files["new_base"]), files["out"])
    after = found.get_base_model().model.embed_tokens.weight
    start = model.get_base_model().model.embed_tokens.weight
    if outcome.pick == "direct":
        start = make(LLAMA).model.embed_tokens.weight
    assert 5 <= (after != start).any(1).sum() <= 8


def test_so_they_do_by_activations(tmp_path):
    """Whatever order was found: each tensor is the new base's and a permuted displacement."""
    files = trio(tmp_path, GPT2, new=make(GPT2))
    inputs = examples(GPT2, tmp_path)
    given = {"method": "activations", "dtype": "bfloat16", "unlabelled": inputs}
    port_fine_tune(make_settings({**files, **given}))
    sides = ["old_base", "tuned", "new_base", "out"]
    old, tuned, new, out = (load_file(f"{files[k]}/model.safetensors") for k in sides)
    for name, tensor in out.items():
        moved = (tuned[name] - old[name]).norm()
        assert torch.isclose((tensor - new[name]).norm(), moved, rtol=1e-5), name
