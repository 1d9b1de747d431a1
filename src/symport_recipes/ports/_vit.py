"""A small ViT: ten classes of CIFAR-10, then the 25 available classes of CIFAR-100."""

from pathlib import Path
from typing import Any

import torch
from torch import Generator

from symport.data import Labelled
from symport.tasks import make_task
from symport_recipes.data import Examples, augmented, load
from symport_recipes.ports._scene import Scene, learned, spared
from symport_recipes.training import Draw, Pace, Watch, kept, made_by, train_

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
OLD_CLASSES, NEW_CLASSES = 10, 25
BASE = Pace(steps=1500, lr=2e-3, batch_size=64, warmup=100)
CONTINUED = Pace(steps=200, lr=1e-3, batch_size=64)
TUNED = Pace(steps=500, lr=1e-3, batch_size=64)
REPORTING = 1000


def vit(cache: Path, watch: Watch = None) -> dict[str, Scene]:
    """The scene `vit`. What is not in the cache is trained: 10 minutes on a core.

    Bases are stored without their head, which is for other classes.
    """
    many, few = load("cifar10").train, _relabelled(load("cifar100").train)

    def trained(name: str, start: Path | int, data: Examples, pace: Pace, seed: int) -> Path:
        recipe = {"shape": SHAPE, "start": made_by(start), "pace": pace, "seed": seed}
        if data is not many:
            recipe["examples"] = len(data)
        classes = OLD_CLASSES if data is many else NEW_CLASSES

        def make() -> list[Any]:
            model = _fresh(start, classes) if isinstance(start, int) else _on(start, classes, seed)
            task = make_task("image", None)
            train_(model, task, _drawn(data), pace, seed=seed, progress=watch)
            return [model.vit if data is many else model]

        return kept(cache / name, recipe, make)

    old = trained("vit-a", 0, many, BASE, 0)
    tuned = trained("vit-a-tuned", old, few.take(learned(len(few))), TUNED, 10)
    targets = {
        "independent": trained("vit-b", 1, many, BASE, 1),
        "continued": trained("vit-a-continued", old, many, CONTINUED, 20),
    }
    test = _relabelled(load("cifar100").test)
    order = torch.randperm(len(test), generator=Generator().manual_seed(0))
    parts = few.take(spared(len(few))), test.take(order[:REPORTING])
    pool, reporting = (Labelled(x.floats(), x.labels) for x in parts)
    return {"vit": Scene("image", old, tuned, targets, pool, reporting)}


def _relabelled(examples: Examples) -> Examples:
    """Classes counted from 0 in the order of their numbers."""
    _, labels = examples.labels.unique(return_inverse=True)
    return Examples(examples.inputs, labels, examples.mean, examples.std)


def _drawn(examples: Examples) -> Draw:
    def draw(count: int, generator: Generator) -> Labelled:
        chosen = examples.take(torch.randint(len(examples), (count,), generator=generator))
        images = augmented(chosen.inputs, generator)
        return Labelled(
            Examples(images, chosen.labels, examples.mean, examples.std).floats(), chosen.labels
        )

    return draw


def _fresh(seed: int, classes: int) -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    shape: dict[str, Any] = {**SHAPE, "num_labels": classes}
    return ViTForImageClassification(ViTConfig(**shape))


def _on(base: Path, classes: int, seed: int) -> Any:
    """A base with a fresh head."""
    from transformers import ViTForImageClassification

    torch.manual_seed(seed)
    return ViTForImageClassification.from_pretrained(base, num_labels=classes)
