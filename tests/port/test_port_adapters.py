import json

import pytest
import torch
from cases import present, seeded
from tiny import (
    examples,
    loaded,
    logits,
    make,
    save,
    shuffled,
    spec_of,
    texts,
    tokenizer,
)

from symport.huggingface import find_family, find_folders
from symport.huggingface._models import params_of
from symport.lora import displacement, load_adapter
from symport.params import add
from symport.port import make_settings, port_fine_tune
from symport.selection import AdapterFactors
from symport.spec import Permutation

peft = pytest.importorskip("peft")

# PEFT asks transformers for something by its former name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

KIND = "LlamaForCausalLM"
MODULES = {KIND: ["q_proj", "v_proj", "down_proj"], "GPT2LMHeadModel": ["c_attn", "c_proj"]}


def tune(kind, folder, **options) -> None:
    """An adapter of PEFT with random factors."""
    config = peft.LoraConfig(r=4, target_modules=MODULES[kind], task_type="CAUSAL_LM",
                             fan_in_fan_out=kind.startswith("GPT2"), **options)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = peft.get_peft_model(make(kind), config)
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(tensor, std=0.1)
    model.save_pretrained(folder)


def files(folder, kind=KIND, **options) -> dict[str, str]:
    for name, model in {"old": make(kind), "new": shuffled(make(kind))}.items():
        save(model, folder / name)
        tokenizer(folder / name)
    tune(kind, folder / "tuned", **options)
    names = {"old_base": "old", "tuned": "tuned", "new_base": "new", "out": "out"}
    return {name: str(folder / place) for name, place in names.items()}


def with_adapter(kind, base, folder):
    return peft.PeftModel.from_pretrained(loaded(kind, base), folder).eval()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (KIND, {"method": "weights"}),
        pytest.param(KIND, {"folds": 0, "steps": 2}, marks=pytest.mark.slow),
        pytest.param("GPT2LMHeadModel", {"method": "weights"}, marks=pytest.mark.slow),
        pytest.param("GPT2LMHeadModel", {"folds": 0, "steps": 2}, marks=pytest.mark.slow),
    ],
)
def test_an_adapter_goes_to_a_base_in_another_order(kind, settings, tmp_path):
    places = files(tmp_path, kind)
    if "folds" in settings:
        settings = {**settings, "examples": examples(kind, tmp_path)}
    port_fine_tune(make_settings({**places, **settings}))
    expected = logits(with_adapter(kind, places["old_base"], places["tuned"]), kind)
    found = logits(with_adapter(kind, places["new_base"], places["out"]), kind)
    assert (found - expected).abs().max() < 1e-5
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, places["new_base"])


def space(folder, **options):
    places = files(folder, **options)
    old, new = (params_of(loaded(KIND, places[name])) for name in ("old_base", "new_base"))
    return AdapterFactors(new, load_adapter(places["tuned"]), spec_of(KIND), old)


def test_gradients_of_the_factors_follow_from_those_of_the_weights(tmp_path):
    """∂B = s ∂W Aᵀ and ∂A = s Bᵀ ∂W, with s = α/r."""
    factors = space(tmp_path, lora_alpha=12)
    held = factors.place(Permutation.identity(factors.spec), 0.5)
    name = "model.layers.0.mlp.down_proj"
    slope = torch.randn(32, 48, generator=seeded(0))
    found = factors.pull_back(held, {f"{name}.weight": slope})
    a, b = (f"base_model.model.{name}.lora_{side}.weight" for side in "AB")
    assert torch.allclose(found[b], 3 * slope @ held[a].T, atol=1e-5)
    assert torch.allclose(found[a], 3 * held[b].T @ slope, atol=1e-5)
    others = [value for key, value in found.items() if "down_proj" not in key]
    assert not any(value.any() for value in others)


def test_a_fresh_adapter_changes_nothing_and_knows_nothing_of_the_old(tmp_path):
    factors = space(tmp_path)
    identity = Permutation.identity(factors.spec)
    fresh, whole = factors.place(identity, 0.0), factors.place(identity, 1.0)
    dense = factors.dense(fresh)
    assert all(torch.equal(dense[n], t) for n, t in factors.target_init.items())
    assert not any(torch.equal(fresh[n], whole[n]) for n in whole)
    change = displacement(factors.adapter, factors.old_base)
    expected = add(factors.target_init, change)
    assert all(torch.allclose(factors.dense(whole)[n], t, atol=1e-6) for n, t in expected.items())


@pytest.mark.slow
def test_direct_training_leaves_an_adapter_of_the_same_rank(tmp_path):
    places = files(tmp_path)
    settings = {
        "folds": 2,
        "steps": 1,
        "scales": [1.5],
        "direct_steps": 2,
        "learning_rates": [0.01],
    }
    found = port_fine_tune(
        make_settings({**places, **settings, "examples": texts(tmp_path / "x.jsonl")})
    )
    before = load_adapter(places["tuned"]).tensors
    after = load_adapter(found.folder).tensors
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in before.items()}
    assert present(found.outcome).evaluated.keys() >= {"direct", "then direct"}
    with_adapter(KIND, places["new_base"], places["out"])


def test_a_ported_adapter_names_its_new_base_at_no_revision_of_the_old_one(tmp_path):
    places = files(tmp_path)
    edited = tmp_path / "tuned" / "adapter_config.json"
    given = json.loads(edited.read_text())
    edited.write_text(
        json.dumps({**given, "revision": "abc123", "base_model_name_or_path": "meta-llama/Other"})
    )
    config = tmp_path / "new" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 1e-5}))
    found = port_fine_tune(make_settings({**places, "method": "weights"}))
    written = json.loads((found.folder / "adapter_config.json").read_text())
    assert written["revision"] is None
    assert written["base_model_name_or_path"] == places["new_base"]
    warning, difference = found.verdict[-1], found.verdict[-2]
    assert "trained on meta-llama/Other, which is not the name of the old base" in warning
    assert "rms_norm_eps is 1e-06 in" in difference
    assert "meta-llama/Other" in (found.folder / "README.md").read_text()
    peft.PeftModel.from_pretrained(loaded(KIND, places["new_base"]), found.folder)


@pytest.mark.parametrize("named", ["somebody/old", "{folder}/old/", "", None])
def test_an_adapter_of_the_old_base_by_any_name_is_no_cause_for_warning(tmp_path, named):
    places = files(tmp_path)
    edited = tmp_path / "tuned" / "adapter_config.json"
    named = named and named.format(folder=tmp_path)
    given = json.loads(edited.read_text())
    edited.write_text(json.dumps({**given, "base_model_name_or_path": named}))
    folders = find_folders(places["old_base"], places["tuned"], places["new_base"])
    assert find_family(folders).notes == ()
