"""What `check` says of two bases whose relation is known, because it was made here."""

import json
import re

import pytest
import torch
from cases import seeded
from tiny import changed, make, save, shuffled, spec_of, tokenizer

from symport.errors import DiscoveryError
from symport.huggingface import all_outputs, example_inputs
from symport.huggingface._models import params_of
from symport.port import _relatedness as kinship
from symport.port import check_port, make_settings
from symport.spec import Permutation, PermutationSpec, permute
from symport.symmetry import discover

LLAMA, GPT2 = "LlamaForCausalLM", "GPT2LMHeadModel"
BERT, VIT = "BertForSequenceClassification", "ViTForImageClassification"
SAME, CONTINUES = "bases are the same", "continues the old one: .*--method identity"
EXACT = "in another order of units: .*same norm. --method weights is exact"
FURTHER = "in another order of units: .*trained further. --method weights"
APART, STREAM = "trained independently", "share their embeddings but little else"


def drifted(model, size: float, seed: int = 4, **options):
    """The model after long training: every matrix moved by so many times its own size."""
    generator = seeded(seed)
    other = make(type(model).__name__, **options)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for tensor in other.parameters():
            if tensor.ndim > 1:
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.add_(size * tensor.std() * noise)
    return other


def inside(model, seed: int = 9):
    """The model in another order, but for its residual stream."""
    spec = spec_of(type(model).__name__)
    permutation = Permutation.random(spec, seeded(seed))
    stream = {g for g in spec.groups if spec.sizes[g] == 32 and "/" not in g}
    kept = {
        g: torch.arange(32) if g in stream else index for g, index in permutation.indices.items()
    }
    other = make(type(model).__name__)
    other.load_state_dict(permute(model.state_dict(), spec, Permutation(kept)))
    return other


def half(model, other):
    """The embeddings of one, the rest of another."""
    joined = make(type(model).__name__)
    entry = joined.get_input_embeddings().weight
    joined.load_state_dict(other.state_dict())
    with torch.no_grad():
        entry.copy_(model.get_input_embeddings().weight)
    return joined


RELATIONS = {
    "the same": (lambda m: m, SAME),
    "another order": (shuffled, EXACT),
    "another order inside": (inside, EXACT),
    "trained further": (lambda m: drifted(m, 0.3), CONTINUES),
    "trained for long": (lambda m: drifted(m, 1.5), CONTINUES),
    "another order, then trained": (lambda m: drifted(shuffled(m), 0.3), FURTHER),
    "another order, then trained for long": (lambda m: drifted(shuffled(m), 1.0), FURTHER),
    "another order inside, then trained": (lambda m: drifted(inside(m), 0.3), FURTHER),
    "independent": (lambda m: make(type(m).__name__, seed=1), APART),
    "another order of others": (lambda m: shuffled(make(type(m).__name__, seed=1)), APART),
    "embeddings alone": (lambda m: half(m, make(type(m).__name__, seed=1)), STREAM),
}  # fmt: skip


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Symmetries are found once; the commands' own tests find theirs."""
    monkeypatch.setattr(kinship, "discover", lambda model, *_, **__: spec_of(type(model).__name__))


def found(folder, old, new, tuned=None):
    models = {"old_base": old, "tuned": tuned or changed(old), "new_base": new}
    for name, model in models.items():
        save(model, folder / name)
        if not type(model).__name__.startswith("ViT"):
            tokenizer(folder / name)
    given = {name: str(folder / name) for name in models}
    return check_port(make_settings({**given, "out": str(folder / "out")}))


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_verdict_names_the_relation(tmp_path, relation):
    change, sentence = RELATIONS[relation]
    old = make(LLAMA)
    seen = found(tmp_path, old, change(old))
    assert_says(seen, sentence)


@pytest.mark.parametrize("kind", [GPT2, BERT, VIT])
@pytest.mark.parametrize(
    ("relation"), ["another order", "trained further", "another order, then trained", "independent"]
)
def test_architectures(tmp_path, kind, relation):
    change, sentence = RELATIONS[relation]
    old = make(kind)
    assert_says(found(tmp_path, old, change(old)), sentence)


def assert_says(seen, sentence):
    assert re.search(sentence, seen.verdict[0]), (seen.verdict[0], seen.kinship)


def test_where_no_symmetry_is_found_rows_and_norms_tell(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise DiscoveryError("the model takes another way for each input")

    monkeypatch.setattr(kinship, "discover", fail)
    old = make(LLAMA)
    assert_says(found(tmp_path / "a", old, drifted(old, 0.3)), CONTINUES)
    assert_says(
        found(tmp_path / "b", old, shuffled(old)), "looks like the old one in another order"
    )
    apart = found(tmp_path / "c", old, make(LLAMA, seed=1))
    assert_says(apart, "Another order could not be looked for: the model takes another way")


def test_a_tied_model_with_its_own_symmetry(tmp_path, monkeypatch):
    old = make(LLAMA, tie_word_embeddings=True)
    spec = discover(old, example_inputs(old, old.config), select=all_outputs)
    monkeypatch.setattr(kinship, "discover", lambda *_, **__: spec)
    order = Permutation.random(spec, seeded(3))
    new = drifted(old, 0.3, tie_word_embeddings=True)
    new.load_state_dict(permute(new.state_dict(), spec, order))
    tuned = drifted(old, 0.02, tie_word_embeddings=True)
    assert_says(found(tmp_path, old, new, tuned), FURTHER)


def test_units_are_counted_by_hand():
    """Of 16 units beside 40 tokens, rows 0 to 3 stay, 4 to 11 turn round, and the rest are new."""
    spec = PermutationSpec.parse({"embed": ". h"}, {"embed": torch.zeros(40, 16)})
    old = torch.randn(40, 16, generator=seeded(0))
    new = torch.randn(40, 16, generator=seeded(1))
    new[:, :4] = old[:, :4]
    new[:, 4:12] = old[:, 4:12].flip(1)
    (standing,) = kinship.standings({"embed": old}, {"embed": new}, spec)
    assert (standing.group, standing.units) == ("h", 16)
    assert standing.stay == 4 / 16
    assert standing.moved == 8 / 16


def test_large_tables_are_read_in_part_and_say_the_same(tmp_path, monkeypatch):
    old = make(LLAMA)
    whole = found(tmp_path / "a", old, drifted(shuffled(old), 0.3)).kinship
    monkeypatch.setattr(kinship, "MOST_FEATURES", 128)
    monkeypatch.setattr(kinship, "BLOCK", 16)
    part = found(tmp_path / "b", old, drifted(shuffled(old), 0.3)).kinship
    assert part.relation == whole.relation == "reordered"
    assert part.moved > 0.7


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_of_a_bare_base_is_measured_against_it(tmp_path):
    """PEFT's names have a prefix that the files of a bare base lack."""
    peft = pytest.importorskip("peft")
    old, new = make(GPT2), shuffled(make(GPT2))
    for name, model in {"old": old, "new": new}.items():
        save(model.transformer, tmp_path / name)
        tokenizer(tmp_path / name)
        content = json.loads((tmp_path / name / "config.json").read_text())
        content["architectures"] = [GPT2]
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    config = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True,
                             task_type="CAUSAL_LM", init_lora_weights=False)  # fmt: skip
    tuned = peft.get_peft_model(make(GPT2), config)
    tuned.save_pretrained(tmp_path / "tuned")
    given = {f: str(tmp_path / n) for f, n in (("old_base", "old"), ("new_base", "new"))}
    seen = check_port(make_settings({**given, "tuned": str(tmp_path / "tuned"), "out": "unused"}))
    assert_says(seen, EXACT)
    before = params_of(old)
    merged = params_of(tuned.merge_and_unload())
    moved = sum(float((t - before[n]).square().sum()) for n, t in merged.items())
    size = sum(float(t.square().sum()) for t in before.values())
    assert seen.displacement == pytest.approx((moved / size) ** 0.5, rel=1e-4)
