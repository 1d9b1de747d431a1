"""Adapters that no port can carry are refused before anything is traced, with what to do."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import logits, make, save, shuffled, tokenizer, transformers

from symport.errors import FileError, ParamsError, SettingsError, SymportError
from symport.huggingface import quiet_transformers
from symport.port import make_settings, port_fine_tune

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's advice

KIND = "LlamaForCausalLM"


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    for name, model in {"old": make(KIND), "new": shuffled(make(KIND))}.items():
        save(model, folder / name)
        tokenizer(folder / name)
    return folder


def files(bases, folder) -> dict[str, str]:
    names = {"old_base": bases / "old", "new_base": bases / "new"}
    return {k: str(p) for k, p in names.items()} | {
        "tuned": str(folder / "tuned"), "out": str(folder / "out")
    }  # fmt: skip


def base(folder):
    with quiet_transformers():
        return transformers.LlamaForCausalLM.from_pretrained(folder)


def tune(bases, folder, config) -> None:
    peft.get_peft_model(base(bases / "old"), config).save_pretrained(folder / "tuned")


def lora(**options):
    return peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **options)


def refused(places, message, error: type[SymportError] = ParamsError):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("symport.port._without_examples.find_spec", None)  # nothing is traced before
        with pytest.raises(error, match=message):
            port_fine_tune(make_settings({**places, "method": "weights"}))
    assert not Path(places["out"]).exists()


MERGED = {
    "ADALORA": lambda: peft.AdaLoraConfig(target_modules=["q_proj"], total_step=9),
    "IA3": lambda: peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    "VERA": lambda: peft.VeraConfig(target_modules=["q_proj"]),
    "LOHA": lambda: peft.LoHaConfig(target_modules=["q_proj"]),
    "LOKR": lambda: peft.LoKrConfig(target_modules=["q_proj"]),
    "OFT": lambda: peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4),
    "LN_TUNING": lambda: peft.LNTuningConfig(target_modules=["norm"]),
    "BOFT": lambda: peft.BOFTConfig(target_modules=["q_proj"], boft_block_size=4),
    "FOURIERFT": lambda: peft.FourierFTConfig(target_modules=["q_proj"], n_frequency=9),
}
PROMPTS = {
    "PROMPT_TUNING": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    "P_TUNING": lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
}


@pytest.mark.parametrize("kind", [*MERGED, *PROMPTS])
def test_other_kinds_are_named_with_the_next_step(kind, bases, tmp_path):
    tune(bases, tmp_path, {**MERGED, **PROMPTS}[kind]())
    step = "merge_and_unload.*pass it as the fine-tune" if kind in MERGED else "cannot be carried"
    refused(files(bases, tmp_path), rf"of type {kind}; .*{step}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora_alpha": None}, "lora_alpha is None, not a number"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', not a number"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"alpha_pattern": {"(": 3}}, r"alpha_pattern has '\(', no regular expression"),
        ({"rank_pattern": {"[": 3}}, r"rank_pattern has '\[', no regular expression"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern gives 'q_proj' 'x'"),
        ({"alpha_pattern": ["q_proj"]}, r"alpha_pattern is \['q_proj'\]"),
        ({"r": 4}, "the rank of .*q_proj is 4, its factors have 2"),
        ({"rank_pattern": {"q_proj": 3}}, "the rank of .*q_proj is 3, its factors have 2"),
        ({"peft_type": None}, "of type None"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_named(change, message, bases, tmp_path):
    tune(bases, tmp_path, lora())
    path = tmp_path / "tuned" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(files(bases, tmp_path), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "not the configuration of an adapter"), ("{", "not JSON"), ("7", "not the config")],
)
def test_a_configuration_that_is_none(text, message, bases, tmp_path):
    tune(bases, tmp_path, lora())
    (tmp_path / "tuned" / "adapter_config.json").write_text(text)
    refused(files(bases, tmp_path), f"adapter_config.json: {message}", FileError)


def test_a_task_without_a_class(bases, tmp_path):
    tune(bases, tmp_path, lora())
    path = tmp_path / "tuned" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task_type": "SEQ_2_SEQ_LM"}))
    refused(files(bases, tmp_path), "task_type is SEQ_2_SEQ_LM.*LlamaConfig", SettingsError)


RESIZED = {
    "layers": {},
    "saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "factors": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
}


def resized(bases, folder, case) -> dict[str, str]:
    torch.manual_seed(0)
    model = base(bases / "old")
    model.resize_token_embeddings(264)
    options = {"target_modules": ["q_proj"], **RESIZED[case]}
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, task_type="CAUSAL_LM", **options))
    for tensor in adapted.parameters():
        if tensor.requires_grad:
            tensor.data.add_(0.1 * torch.randn_like(tensor))
    adapted.save_pretrained(folder / "tuned")
    return files(bases, folder)


@pytest.mark.parametrize("case", RESIZED)
def test_a_resized_vocabulary_is_refused_with_the_remedy(case, bases, tmp_path):
    places = resized(bases, tmp_path, case)
    refused(places, r"264 tokens, the base 260; .*resize_token_embeddings\(264\)")


@pytest.mark.parametrize("case", RESIZED)
def test_the_remedy_works(case, bases, tmp_path):
    """Both bases resized alike; the fine-tune's own rows go where its tokens are."""
    places = resized(bases, tmp_path, case)
    for key, name in (("old_base", "old"), ("new_base", "new")):
        model = base(bases / name)
        model.resize_token_embeddings(264, mean_resizing=False)
        with torch.no_grad():  # drawn alike in both bases, in the order of each
            for tensor in (model.get_input_embeddings().weight, model.lm_head.weight):
                tensor[260:] = 0
        save(model, tmp_path / key)
        tokenizer(tmp_path / key)
        places[key] = str(tmp_path / key)
    port_fine_tune(make_settings({**places, "method": "weights"}))
    sides = [
        peft.PeftModel.from_pretrained(base(places[key]), places[tuned]).eval()
        for key, tuned in (("old_base", "tuned"), ("new_base", "out"))
    ]
    expected, found = (logits(side, KIND) for side in sides)
    assert (found - expected).abs().max() < 1e-5


def test_an_adapter_of_another_model_is_refused(bases, tmp_path):
    tune(bases, tmp_path, lora())
    path = tmp_path / "tuned" / "adapter_model.safetensors"
    state = load_file(path)
    odd = {k: t[:, :16].contiguous() if "lora_A" in k else t for k, t in state.items()}
    save_file(odd, path)
    refused(files(bases, tmp_path), "q_proj.weight: the adapter is for a weight of .*another base")


def test_every_refusal_is_one_line(bases, tmp_path):
    tune(bases, tmp_path, MERGED["IA3"]())
    with pytest.raises(SymportError) as caught:
        port_fine_tune(make_settings({**files(bases, tmp_path), "method": "weights"}))
    assert "\n" not in str(caught.value)
