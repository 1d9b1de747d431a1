"""A small Llama with shared key heads: plays, then an encyclopedia; all weights and LoRA."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from symport.tasks import make_task
from symport_recipes.ports._scene import Scene
from symport_recipes.ports._texts import anywhere, byte_tokenizer, disjoint, read, tokens_of
from symport_recipes.training import Draw, Pace, Watch, kept, made_by, train_

LENGTH = 64
SHAPE: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 256,
    "use_cache": False,
}
LORA: dict[str, Any] = {
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
BASE = Pace(steps=1600, lr=3e-3, warmup=100)
CONTINUED = Pace(steps=300, lr=1e-3)
TUNED = Pace(steps=500, lr=1e-3)
ADAPTED = Pace(steps=500, lr=3e-3)
PLAYS, PROSE = "shakespeare", "wiki"
POOL, REPORTING = 4096, 256


def llama(cache: Path, watch: Watch = None) -> dict[str, Scene]:
    """Scenes `llama` and `llama-lora`. What is not in the cache is trained: 8 minutes on a core."""
    tokenizer = byte_tokenizer()
    plays, prose = (anywhere(tokens_of(read(n), tokenizer), LENGTH) for n in (PLAYS, PROSE))

    def trained(name: str, start: Path | int, draw: Draw, pace: Pace, seed: int) -> Path:
        recipe = {"shape": SHAPE, "start": made_by(start), "pace": pace, "seed": seed}

        def make() -> list[Any]:
            model = _fresh(start) if isinstance(start, int) else _load(start)
            train_(model, make_task("causal-lm", None), draw, pace, seed=seed, progress=watch)
            return [model, tokenizer]

        return kept(cache / name, recipe, make)

    old = trained("llama-a", 0, plays, BASE, 0)
    tuned = trained("llama-a-tuned", old, prose, TUNED, 10)
    new = trained("llama-b", 1, plays, BASE, 1)
    continued = trained("llama-a-continued", old, plays, CONTINUED, 20)
    adapter = _adapted(cache / "llama-a-lora", old, prose, watch)
    report = disjoint(tokens_of(read("wiki-test"), tokenizer), LENGTH, REPORTING)
    pool = disjoint(tokens_of(read(PROSE), tokenizer), LENGTH, POOL)
    targets = {"independent": new, "continued": continued}
    return {
        "llama": Scene("causal-lm", old, tuned, targets, pool, report),
        "llama-lora": Scene("causal-lm", old, adapter, targets, pool, report),
    }


def _adapted(folder: Path, old: Path, draw: Draw, watch: Watch) -> Path:
    import peft

    def make() -> list[Any]:
        torch.manual_seed(0)  # of the factors
        model: nn.Module = peft.get_peft_model(_load(old), peft.LoraConfig(**LORA))
        train_(model, make_task("causal-lm", None), draw, ADAPTED, seed=11, progress=watch)
        return [model]

    recipe = {"shape": SHAPE, "start": made_by(old), "lora": LORA, "pace": ADAPTED}
    return kept(folder, recipe, make)


def _fresh(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def _load(folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder)
