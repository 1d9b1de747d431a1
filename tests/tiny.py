"""Tiny random transformers on disk, shared by the tests of porting."""

import functools
import json
import random

import pytest
import torch
from cases import seeded

from symport.huggingface import Family, all_outputs, example_inputs, quiet_transformers
from symport.spec import Permutation, permute
from symport.symmetry import discover

transformers = pytest.importorskip("transformers")

TEXT = {"vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
CONFIGS = {
    "LlamaForCausalLM": {**TEXT, "num_key_value_heads": 2},
    "GPT2LMHeadModel": {"vocab_size": 260, "n_positions": 64, "n_embd": 32, "n_layer": 1,
                        "n_head": 4, "bos_token_id": 1, "eos_token_id": 1},
    "BertForSequenceClassification": {**TEXT, "num_labels": 3},
    "ViTForImageClassification": {"hidden_size": 32, "intermediate_size": 48, "num_labels": 3,
                                  "num_hidden_layers": 1, "num_attention_heads": 4,
                                  "image_size": 16, "patch_size": 8},
    "MixtralForCausalLM": {**TEXT, "num_key_value_heads": 2, "num_local_experts": 4},
}  # fmt: skip


def make(kind: str, seed: int = 0, **options):
    """A random model; norms and biases are random too, so that a wrong permutation shows."""
    family = getattr(transformers, kind)
    config = family.config_class(**{**CONFIGS[kind], **options}, use_cache=False)
    config._experts_implementation = "batched_mm"
    return drawn(family, config, seed)


def drawn(family, config, seed: int):
    """A model of a configuration, with noise on every tensor."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family(config).eval()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model


@functools.cache
def spec_of(kind: str):
    model = make(kind)
    return discover(model, example_inputs(model, model.config), select=all_outputs)


def changed(model, seed: int = 5, size: float = 0.02):
    """A stand-in for a fine-tune: every weight moves a little."""
    generator = seeded(seed)
    other = make(type(model).__name__)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(size * torch.randn(tensor.shape, generator=generator))
    return other


def shuffled(model, seed: int = 9):
    """The model in another order of its units."""
    kind = type(model).__name__
    permutation = Permutation.random(spec_of(kind), seeded(seed))
    other = make(kind)
    other.load_state_dict(permute(model.state_dict(), spec_of(kind), permutation))
    return other


def save(model, folder, **options):
    with quiet_transformers():
        model.save_pretrained(folder, **options)
    return folder


def tokenizer(folder) -> None:
    """One token for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {x: k + 3 for k, x in enumerate(letters)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    fast.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    fast.save_pretrained(folder)


def texts(path, count: int = 12, **extra):
    """Lines of made-up words, with whatever else each line is to have."""
    draw = random.Random(0)
    lines = [
        {"text": " ".join("".join(draw.choices("abcde", k=4)) for _ in range(3))}
        | {key: make_value(k) for key, make_value in extra.items()}
        for k in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def pictures(folder, count: int = 4):
    from PIL import Image

    generator = seeded(0)
    for name in ("LABEL_0", "LABEL_1", "LABEL_2"):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            pixels = torch.randint(256, (20, 24, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{k}.png")
    return str(folder)


def examples(kind: str, folder):
    if kind.startswith("ViT"):
        return pictures(folder / "images")
    path = folder / "examples.jsonl"
    if kind.startswith("Bert"):
        return texts(path, label=lambda k: f"LABEL_{k % 3}")
    return texts(path)


def logits(model, kind: str):
    generator = seeded(1)
    if kind.startswith("ViT"):
        inputs = {"pixel_values": torch.rand(2, 3, 16, 16, generator=generator)}
    else:
        inputs = {"input_ids": torch.randint(3, 260, (2, 10), generator=generator)}
    with torch.no_grad():
        return model.float()(**inputs).logits


def trio(folder, kind: str, *, new=None, **options) -> dict[str, str]:
    """Old base, fine-tune and new base (by default the old one in another order) on disk."""
    old = make(kind)
    models = {"old_base": old, "tuned": changed(old), "new_base": new or shuffled(old)}
    for name, model in models.items():
        save(model, folder / name, **options)
        if not kind.startswith("ViT"):
            tokenizer(folder / name)
    return {name: str(folder / name) for name in models} | {"out": str(folder / "out")}


def loaded(kind: str, folder):
    with quiet_transformers():
        return getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()


def family_of(kind: str) -> Family:
    model = make(kind)
    return Family(type(model), model.config)
