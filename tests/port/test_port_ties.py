"""Tied embeddings and heads: PEFT and transformers say what an adapter or a file does to them."""

import json

import pytest
import torch
from cases import present, seeded
from safetensors.torch import load_file, save_file
from tiny import changed, logits, make, save, shuffled, tokenizer, transformers

from symport.huggingface import quiet_transformers
from symport.port import make_settings, port_fine_tune

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's advice on tied weights

KIND = "LlamaForCausalLM"
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TEXT = "abc bca cab"
ADAPTERS = {
    "plain": {"target_modules": ["q_proj", "down_proj"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "both tied": {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]},
    "saved both": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "saved tied": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"],
                   "ensure_weight_tying": True},
    "layers kept": {"target_modules": ["q_proj"], "save_embedding_layers": True},
    "all kept": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"],
                 "save_embedding_layers": True},
}  # fmt: skip


def drifted(model):
    """A base that continues another: every tensor moves a little, and ties are kept."""
    other = make(KIND, tie_word_embeddings=model.config.tie_word_embeddings)
    other.load_state_dict(model.state_dict())
    generator = seeded(11)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(0.03 * torch.randn(tensor.shape, generator=generator))
    return other


def read(folder):
    with quiet_transformers():
        return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def with_adapter(base, folder):
    return peft.PeftModel.from_pretrained(read(base), folder).eval()


def tune(base, folder, *, save_embedding_layers="auto", **options) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", lora_alpha=6, **options)
        model = peft.get_peft_model(read(base), config)
        for tensor in model.parameters():
            if tensor.requires_grad:
                tensor.data.add_(0.1 * torch.randn_like(tensor))
        model.save_pretrained(folder, save_embedding_layers=save_embedding_layers)


def trio(folder, tied, name, new) -> dict[str, str]:
    old = make(KIND, tie_word_embeddings=tied)
    for place, model in {"old": old, "new": new(old)}.items():
        save(model, folder / place)
        tokenizer(folder / place)
    tune(folder / "old", folder / "tuned", **ADAPTERS[name])
    names = {"old_base": "old", "tuned": "tuned", "new_base": "new", "out": "out"}
    return {key: str(folder / place) for key, place in names.items()}


def untied(folder):
    """A base whose tied tensor stands under both names, so that PEFT can merge into each."""
    model = make(KIND, tie_word_embeddings=False)
    model.load_state_dict(read(folder).state_dict())
    return model


def dense(base, folder) -> dict[str, torch.Tensor]:
    """All weights under an adapter; embedding and head as they answer, however they are wrapped."""
    merged = peft.PeftModel.from_pretrained(untied(base), folder).merge_and_unload().state_dict()
    model = with_adapter(base, folder)
    with torch.no_grad():
        rows = model.get_input_embeddings()(torch.arange(260))
        head = model.get_output_embeddings()(torch.eye(32)).T
    return {**merged, EMBED: rows, HEAD: head}


def reordered(model):
    """The same in another order of units; a tied model has the symmetry of an untied one."""
    other = make(KIND, tie_word_embeddings=model.config.tie_word_embeddings)
    state = make(KIND).state_dict() | dict(model.state_dict())
    plain = make(KIND)
    plain.load_state_dict(state)
    other.load_state_dict(shuffled(plain).state_dict())
    return other


CHOSEN = [
    pytest.param(name, tied, marks=[] if tied or name in ("both", "all kept") else pytest.mark.slow)
    for name in ADAPTERS
    for tied in (True, False)
]


@pytest.mark.parametrize(("name", "tied"), CHOSEN)
def test_the_displacement_goes_to_a_base_that_continues_the_old_one(name, tied, tmp_path):
    """What PEFT makes of each weight on the old base, minus the base, is added to the new one."""
    files = trio(tmp_path, tied, name, drifted)
    port_fine_tune(make_settings({**files, "method": "identity"}))
    after = dense(files["old_base"], files["tuned"])
    before, new = (untied(files[key]).state_dict() for key in ("old_base", "new_base"))
    expected = make(KIND, tie_word_embeddings=False)
    expected.load_state_dict({key: new[key] + after[key] - before[key] for key in new})
    found = logits(with_adapter(files["new_base"], files["out"]), KIND)
    assert (found - logits(expected.eval(), KIND)).abs().max() < 5e-6


def loss(model, folder) -> float:
    """The library's own loss of the one text that all examples are."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        return float(model(input_ids=tokens, labels=tokens).loss)


def examples(path) -> str:
    path.write_text("\n".join([json.dumps({"text": TEXT})] * 8))
    return str(path)


def losses_agree(files, found, with_fine_tune) -> None:
    """What a port reports is what the library says of the folders, the written one included."""
    expected = {
        "the old base": (found.source_start, read(files["old_base"])),
        "the fine-tune": (found.source_end, with_fine_tune("old_base", "tuned")),
        "the new base": (found.evaluated["untouched"], read(files["new_base"])),
        "the result": (found.evaluated[found.pick], with_fine_tune("new_base", "out")),
    }
    for what, (judged, model) in expected.items():
        assert judged.loss == pytest.approx(loss(model, files["new_base"]), rel=1e-5), what


@pytest.mark.parametrize(("name", "tied"), CHOSEN)
def test_losses_of_an_adapter_are_those_of_the_library(name, tied, tmp_path):
    files = trio(tmp_path, tied, name, reordered)
    settings = {"folds": 0, "steps": 1, "examples": examples(tmp_path / "x.jsonl")}
    found = present(port_fine_tune(make_settings({**files, **settings})).outcome)
    assert found.pick == "transfer"
    losses_agree(files, found, lambda base, tune: with_adapter(files[base], files[tune]))
    assert found.evaluated["transfer"].loss == pytest.approx(found.source_end.loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ADAPTERS)
def test_so_they_are_after_training(name, tied, tmp_path):
    files = trio(tmp_path, tied, name, drifted)
    settings = {
        "folds": 2,
        "steps": 1,
        "scales": [1.5],
        "direct_steps": 4,
        "learning_rates": [0.01],
    }
    given = {**files, **settings, "examples": examples(tmp_path / "x.jsonl")}
    found = present(port_fine_tune(make_settings(given)).outcome)
    losses_agree(files, found, lambda base, tune: with_adapter(files[base], files[tune]))
    assert found.pick in ("direct", "then direct")


COPIES = {
    "none": {},
    "equal in all": dict.fromkeys(("old_base", "tuned", "new_base"), 0.0),
    "equal in one": {"tuned": 0.0},
    "equal in two": {"old_base": 0.0, "tuned": 0.0},
    "other in the fine-tune": {"tuned": 0.1},
    "other in both bases": {"old_base": 0.1, "new_base": -0.1},
    "other in all": {"old_base": 0.1, "tuned": 0.2, "new_base": -0.1},
}


def with_copies(folder, copies, new) -> dict[str, str]:
    """Full fine-tunes of a tied model, whose files have a head of their own."""
    old = make(KIND, tie_word_embeddings=True)
    tuned = make(KIND, tie_word_embeddings=True)
    tuned.load_state_dict({**changed(untied_model(old)).state_dict()})
    places = {"old_base": old, "tuned": tuned, "new_base": new(old)}
    for name, model in places.items():
        save(model, folder / name)
        tokenizer(folder / name)
        if name in copies:
            path = folder / name / "model.safetensors"
            state = load_file(path)
            state[HEAD] = state[EMBED] + copies[name] * torch.randn(260, 32, generator=seeded(4))
            save_file(state, path, {"format": "pt"})
    return {name: str(folder / name) for name in places} | {"out": str(folder / "out")}


def untied_model(model):
    other = make(KIND, tie_word_embeddings=False)
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("case", COPIES)
def test_a_copy_of_a_tied_tensor_is_read_as_transformers_does(case, tmp_path):
    """Where copies are equal they are one tensor; where they differ the library does not tie."""
    files = with_copies(tmp_path, COPIES[case], drifted)
    port_fine_tune(make_settings({**files, "method": "identity"}))
    old, tuned, new = (read(files[k]).state_dict() for k in ("old_base", "tuned", "new_base"))
    expected = make(KIND, tie_word_embeddings=False)
    expected.load_state_dict({key: new[key] + tuned[key] - old[key] for key in new})
    out = read(files["out"])
    assert (logits(out, KIND) - logits(expected.eval(), KIND)).abs().max() < 5e-6
    is_tied = all(size == 0 for size in COPIES[case].values())
    assert (HEAD in load_file(tmp_path / "out" / "model.safetensors")) == (not is_tied)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[] if "the" in c else pytest.mark.slow) for c in COPIES],
)
def test_losses_of_a_full_fine_tune_are_those_of_the_library(case, tmp_path):
    files = with_copies(tmp_path, COPIES[case], drifted)
    settings = {"folds": 0, "method": "identity", "examples": examples(tmp_path / "x.jsonl")}
    found = port_fine_tune(make_settings({**files, **settings})).outcome
    losses_agree(files, found, lambda _, tune: read(files[tune]))


def test_a_head_may_stand_for_the_embedding_it_is_tied_to(tmp_path):
    """A file with the head alone loads, and what is written has the same name."""
    files = with_copies(tmp_path, {}, drifted)
    for name in ("tuned", "new_base"):
        path = tmp_path / name / "model.safetensors"
        state = load_file(path)
        state[HEAD] = state.pop(EMBED)
        save_file(state, path, {"format": "pt"})
    old, tuned, new = (read(files[k]).state_dict() for k in ("old_base", "tuned", "new_base"))
    port_fine_tune(make_settings({**files, "method": "identity"}))
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert HEAD in written
    assert EMBED not in written
    out = read(files["out"]).state_dict()
    assert all((out[k] - (new[k] + tuned[k] - old[k])).abs().max() < 1e-6 for k in new)
