"""Experiments that the paper's reviewers asked for, and reasons for the result of a transfer."""

from dataclasses import replace
from typing import Literal

from symport_recipes.experiments import Curves, DisplacementScales, OtherStarts, Sensitivity
from symport_recipes.runner import HOURS, SECONDS, Recipe, Scale
from symport_recipes.setups import CIFAR10, CIFAR10_CPU, MNIST, SMOKE, Scene, mlp_scene, mnist_cpu

STARTS_NOTE = (
    "A transfer results in the permuted trained source with its start exchanged for the target's "
    "(share 1). A permutation helps to the degree that it makes the two starts similar."
)
SENSITIVITY_NOTE = (
    "Requested in the paper's public reviews; no number is published. cpu: a 2-MLP of width 1024 "
    "on MNIST, 5 epochs at rate .01, where alignment matters up to the last step; paper: Conv8 on "
    "CIFAR-10."
)
LENGTHS_NOTE = "The paper uses α = 1 only. The permutation is that of the last step."


def sensitivity_to_steps() -> Recipe:
    """How the last step depends on T."""
    values = ((1, 2), (1, 2, 5, 10, 20, 40), (5, 10, 20, 30, 60))
    return _sensitivity("steps", "steps", "Sensitivity to T, FGMT", "T", values)


def sensitivity_to_batches() -> Recipe:
    """How the last step depends on the size of the matching batches."""
    values = ((16, 64), (16, 64, 256, 1024, 4096), (16, 64, 256, 1024, 4096))
    title = "Sensitivity to the matching batch, FGMT"
    return _sensitivity("batches", "batch_size", title, "samples in a batch", values)


def adam_sources() -> Recipe:
    """Figure 5, MNIST, with sources and targets trained by Adam."""
    adam = replace(MNIST.training, lr=1e-3, optimizer="adam", epochs=3)
    smoke = replace(SMOKE.training, lr=1e-3, optimizer="adam")
    return Recipe(
        name="adam",
        title="Sources trained by Adam: 2-MLP of width 1024 on MNIST",
        scales={
            "smoke": Curves(scene=replace(SMOKE, training=smoke)),
            "cpu": Curves(scene=mlp_scene(replace(MNIST, training=adam), (784, 1024, 10))),
        },
        costs={"smoke": SECONDS, "cpu": "1 minute on one core"},
        note="Requested in the paper's public reviews; no number is published.",
    )


def other_starts() -> Recipe:
    """Why a transfer succeeds or fails: accuracy as the start of a source is exchanged."""
    short = {f"2-MLP, lr {lr:g}": mnist_cpu(lr) for lr in (0.01, 0.1)}
    return Recipe(
        name="starts",
        title="Why a transfer succeeds or fails: exchanging the start of a source",
        scales={
            "smoke": OtherStarts(scenes={"mlp": SMOKE}, points=3),
            "cpu": OtherStarts(scenes={**short, "Conv8": CIFAR10_CPU}),
        },
        costs={"smoke": SECONDS, "cpu": "4 minutes on one core after the sources"},
        axes=("share of the start that is exchanged", "validation accuracy"),
        note=STARTS_NOTE,
    )


def lengths() -> Recipe:
    """Displacements with other scales than the source's own."""
    values = (0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
    return Recipe(
        name="lengths",
        title="Scales of the displacement",
        scales={
            "smoke": DisplacementScales(scene=SMOKE, lengths=values[:3]),
            "cpu": DisplacementScales(scene=CIFAR10_CPU, lengths=values),
            "paper": DisplacementScales(scene=CIFAR10, lengths=values),
        },
        costs={"smoke": SECONDS, "cpu": "3 minutes on one core after the sources", "paper": HOURS},
        axes=("scale α", "validation accuracy"),
        note=LENGTHS_NOTE,
    )


def _sensitivity(
    name: str,
    of: Literal["steps", "batch_size"],
    title: str,
    axis: str,
    values: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> Recipe:
    """`values`: at smoke, cpu and paper scale."""
    scenes: dict[Scale, Scene] = {"smoke": SMOKE, "cpu": mnist_cpu(), "paper": CIFAR10}
    return Recipe(
        name=name,
        title=title,
        scales={
            scale: Sensitivity(scene=scene, of=of, values=own)
            for (scale, scene), own in zip(scenes.items(), values, strict=True)
        },
        costs={"smoke": SECONDS, "cpu": "2 minutes on one core", "paper": HOURS},
        axes=(axis, "validation accuracy"),
        note=SENSITIVITY_NOTE,
    )
