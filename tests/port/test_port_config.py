"""Configurations: what may differ, what is told, and what the result's own says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from cases import present
from tiny import loaded, logits, make, texts, transformers, trio

from symport.errors import SettingsError
from symport.huggingface import Family, find_family, find_folders, load_architecture, write_config
from symport.huggingface._compatibility import Configs, agree
from symport.huggingface._models import read_config
from symport.model import LossGradient
from symport.port import make_settings, port_fine_tune
from symport.trajectory import Trajectory


def edit(folder, **keys) -> None:
    """Set keys of config.json; None removes one."""
    path = Path(folder) / "config.json"
    content = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def ported(given, **options):
    return port_fine_tune(make_settings({**given, "method": "identity", **options}))


KERNEL = "kernels-community/flash-attn3"
HEEDED = [
    {"_attn_implementation": KERNEL, "return_dict": False},
    {"attn_implementation": {"": KERNEL}, "output_hidden_states": True},
    {"output_attentions": True, "_experts_implementation": "grouped_mm"},
]


@pytest.mark.parametrize("odd", HEEDED, ids=lambda keys: next(iter(keys)))
def test_no_configuration_asks_for_foreign_kernels_or_other_outputs(tmp_path, odd):
    kind = "LlamaForCausalLM"
    given = trio(tmp_path, kind, new=make(kind, seed=3))
    for name in ("old_base", "tuned", "new_base"):
        edit(given[name], **odd)
    assert vars(load_architecture(given["tuned"]).model)["config"]._attn_implementation == "sdpa"
    folder = ported(given).folder
    for place in (*(given[name] for name in ("old_base", "tuned", "new_base")), folder):
        edit(place, **dict.fromkeys(odd, None))  # transformers itself would heed them
    old, tuned, new = (loaded(kind, given[n]) for n in ("old_base", "tuned", "new_base"))
    sums = {n: new.state_dict()[n] + x - old.state_dict()[n] for n, x in tuned.state_dict().items()}
    new.load_state_dict(sums)
    torch.testing.assert_close(logits(loaded(kind, folder), kind), logits(new, kind))


LLAMA = "LlamaForCausalLM"
THREE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 32}  # fmt: skip


def keys(folder, *names):
    config = transformers.AutoConfig.from_pretrained(folder)
    return {name: getattr(config, name) for name in names}


def llamas(folder, **new):
    """A port to an unrelated base whose config.json is changed."""
    given = trio(folder, LLAMA, new=make(LLAMA, seed=3))
    edit(given["new_base"], **new)
    return given


@pytest.mark.parametrize(
    "legacy",
    [
        {"rope_parameters": None, "rope_theta": 500000.0, "rope_scaling": THREE},
        {"rope_parameters": {**THREE, "rope_theta": 500000.0}},
    ],
    ids=["as transformers 4 has it", "as transformers 5 has it"],
)
def test_a_base_with_other_rope_and_length_gives_them_to_the_result(tmp_path, legacy):
    given = llamas(tmp_path, **legacy, max_position_embeddings=512, rms_norm_eps=1e-5)
    edit(given["tuned"], unsloth_version="2025.1.1", id2label={"0": "a", "1": "b", "2": "c"})
    found = ported(given)
    names = ("rope_parameters", "max_position_embeddings", "rms_norm_eps")
    assert keys(found.folder, *names) == keys(given["new_base"], *names)
    assert keys(found.folder, *names)["rope_parameters"]["rope_theta"] == 500000.0
    assert keys(found.folder, "id2label") == {"id2label": {0: "a", 1: "b", 2: "c"}}
    written = json.loads((found.folder / "config.json").read_text())
    assert written["unsloth_version"] == "2025.1.1"
    assert ("rope_scaling" in written) == ("rope_scaling" in legacy)  # as the new base has it
    card = (found.folder / "README.md").read_text()
    for said in ("max_position_embeddings is 64 in", "10000.0", "of the new base"):
        assert said in card
        assert any(said in sentence for sentence in found.verdict)


def test_a_window_goes_with_the_new_base(tmp_path):
    kind = "MixtralForCausalLM"
    given = trio(tmp_path, kind, new=make(kind, seed=3))
    for name in ("old_base", "tuned"):
        edit(given[name], sliding_window=16)
    found = ported(given)
    assert keys(found.folder, "sliding_window") == {"sliding_window": None}
    assert any("sliding_window is 16 in" in sentence for sentence in found.verdict)


def test_what_no_class_reads_and_what_only_trains_may_differ(tmp_path):
    given = llamas(
        tmp_path, auto_map={"AutoConfig": "x.Y"}, torchscript=True, max_sequence_length=99,
        neftune_noise_alpha=5.0, _flash_attn_2_enabled=True, keys_to_ignore_at_inference=["x"],
        is_decoder=True, something_new=[1], attention_dropout=0.1, initializer_range=0.5,
        use_cache=True, pad_token_id=3, pretraining_tp=2,
    )  # fmt: skip
    found = ported(given)
    assert not [
        sentence for sentence in found.verdict if " is " in sentence and " in /" in sentence
    ]
    assert (found.folder / "config.json").read_text() == Path(
        given["tuned"], "config.json"
    ).read_text()


def test_what_weights_do_not_show_is_refused_with_its_remedy_and_may_be_accepted(tmp_path):
    given = llamas(tmp_path, hidden_act="gelu")
    with pytest.raises(
        SettingsError,
        match=r"hidden_act is 'silu' in .*old_base, 'gelu' in .*new_base, which weights do not "
        r"show; --set accept=hidden_act goes on, and the result has that of the new base",
    ):
        ported(given)
    found = ported(given, accept=("hidden_act",))
    assert keys(found.folder, "hidden_act") == {"hidden_act": "gelu"}
    assert any("hidden_act is 'silu' in" in sentence for sentence in found.verdict)


def test_a_fine_tune_with_another_rope_than_its_base_has_to_be_accepted(tmp_path):
    given = llamas(tmp_path)
    scaled = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    edit(given["tuned"], rope_parameters=scaled, max_position_embeddings=256, hidden_act="gelu")
    with pytest.raises(
        SettingsError,
        match=r"--set accept=hidden_act,rope_parameters goes on",
    ):
        ported(given)
    found = ported(given, accept=("rope_parameters", "hidden_act"))
    names = ("rope_parameters", "max_position_embeddings")
    assert keys(found.folder, *names) == keys(given["new_base"], *names)
    assert keys(found.folder, "hidden_act") == {"hidden_act": "gelu"}


def test_a_key_that_no_class_reads_cannot_be_accepted(tmp_path):
    with pytest.raises(SettingsError, match="accept: LlamaConfig reads no key hiden_act"):
        ported(llamas(tmp_path), accept=("hiden_act",))


def test_what_shapes_depend_on_cannot_be_accepted(tmp_path):
    given = trio(tmp_path, LLAMA, new=make(LLAMA, hidden_size=64))
    message = (
        r"not one architecture: (hidden_size|head_dim) is \d+ in .*old_base, \d+ in .*new_base"
    )
    with pytest.raises(SettingsError, match=message):
        ported(given, accept=("hidden_size",))


def losses(folder, lines):
    """What transformers says of each text, on the folder as it is configured."""
    model, reader = loaded(LLAMA, folder), transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for line in Path(lines).read_text().splitlines():
        tokens = torch.tensor([reader(json.loads(line)["text"])["input_ids"]])
        with torch.no_grad():
            found.append(float(model(tokens, labels=tokens).loss))
    return torch.tensor(found)


def test_each_base_is_run_as_it_is_configured(tmp_path):
    """A rope of another base of frequencies: a result that mixed them would have other losses."""
    given = llamas(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 3.0})
    lines = texts(tmp_path / "x.jsonl")
    options = {"examples": lines, "method": "fgmt", "folds": 2, "steps": 2, "direct_steps": 0}
    found = ported(given, **options)
    outcome = present(found.outcome)
    sides = {"old_base": outcome.source_start, "tuned": outcome.source_end,
             "new_base": outcome.evaluated["untouched"]}  # fmt: skip
    for name, judged in sides.items():
        expected = losses(given[name], lines)
        nearest = (judged.losses[:, None] - expected).abs().min(1).values
        assert nearest.max() < 1e-5, name
    written = losses(found.folder, lines)
    nearest = (outcome.evaluated[outcome.pick].losses[:, None] - written).abs().min(1)
    assert nearest.values.max() < 1e-5


def test_gradients_along_a_source_are_those_of_its_own_model():
    class Doubled(torch.nn.Linear):
        def forward(self, input):  # noqa: A002  # torch's name
            return 2 * super().forward(input)

    doubled = Doubled(1, 1, bias=False)
    gradient = LossGradient(
        torch.nn.Linear(1, 1, bias=False),
        torch.nn.functional.mse_loss,
        [(torch.ones(1, 1), torch.ones(1, 1))],
        source_model=doubled,
    )
    first, last = ({"weight": torch.tensor([[w]])} for w in (3.0, 4.0))
    points = Trajectory.linear(first, last, 1)
    assert float(gradient(points[0], 0)["weight"]) == 4  # d/dw (w - 1)² at 3
    assert float(gradient.along(points)[0]["weight"]) == 20  # d/dw (2w - 1)² at 3
    assert gradient.evaluations == 2


def test_both_sides_pad_alike(tmp_path):
    """The classes of texts are read before the padding, which the examples have from one side."""
    given = llamas(tmp_path, rms_norm_eps=1e-5)
    for name in ("old_base", "tuned", "new_base"):
        edit(given[name], pad_token_id=None)
    family = find_family(find_folders(given["old_base"], given["tuned"], given["new_base"]))
    assert family.of_source().config.pad_token_id is None
    family.config.pad_token_id = 7  # as reading examples does
    source = family.of_source().config
    assert (source.pad_token_id, source.rms_norm_eps) == (7, 1e-6)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("kimi_linear", {"model_max_length": 99}),  # its class calls it max_position_embeddings
        ("gpt_neox", {"rotary_emb_base": 500, "rotary_pct": 0.5}),  # of transformers 4
        ("gemma3", {"text_config": {"sliding_window": 7, "rope_local_base_freq": 5.0}}),
        ("modernbert", {"local_attention": 8, "global_rope_theta": 3.0, "norm_eps": 0.1}),
        ("mistral", {"sliding_window": None, "rope_theta": 1e6, "max_position_embeddings": 7}),
        ("gpt2", {"n_positions": 99, "layer_norm_epsilon": 0.1}),
        ("whisper", {"max_source_positions": 99}),
    ],
)
def test_the_written_configuration_says_what_the_new_base_says(tmp_path, kind, changes):
    """Of many classes, in old and new formats; no model is built for what is natural."""
    plain = transformers.AutoConfig.for_model(kind)
    for name in ("old", "tuned", "new"):
        plain.save_pretrained(tmp_path / name)
    content = json.loads((tmp_path / "new" / "config.json").read_text())
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    if any("rope" in key or "rotary" in key for key in changes):
        content.pop("rope_parameters", None)
    (tmp_path / "new" / "config.json").write_text(json.dumps(content))
    sides = [(tmp_path / name, read_config(tmp_path / name)) for name in ("old", "tuned", "new")]
    found = agree(Configs(*sides), lambda config: pytest.fail("a model was built"))
    shutil.copytree(tmp_path / "tuned", tmp_path / "out")
    write_config(tmp_path / "out", Family(None, found.result), tmp_path / "new")
    old, new, out = (
        transformers.AutoConfig.from_pretrained(tmp_path / n).to_dict()
        for n in ("old", "new", "out")
    )
    assert old != new
    assert {k: v for k, v in out.items() if v != new.get(k)}.keys() <= {"_name_or_path"}
    assert found.notes
