"""Figures 6, 7 and 8 and Table E.2: training after a transfer."""

from dataclasses import replace

from symport_recipes.experiments import Basins, Ensembles, Inheritance, Later
from symport_recipes.runner import HOURS, SECONDS, TUNED_NOTE, PairExperiment, Recipe, Scale
from symport_recipes.setups import (
    CARS,
    CIFAR10,
    CIFAR10_CPU,
    CIFAR100,
    CIFAR100_CPU,
    CUB,
    SMOKE,
    SMOKE_TUNED,
    Scene,
    poor,
)
from symport_recipes.training import TrainSettings

METHODS = ("standard", "naive", "oracle", "gmt", "fgmt")


def later(scene: Scene, lr: float, epochs: int | None = None) -> TrainSettings:
    """Later training: as the scene's, with another rate (appendix D.3.5)."""
    return replace(scene.training, lr=lr, epochs=epochs or scene.training.epochs)


LATER_CIFAR10, LATER_CIFAR100 = later(CIFAR10, 0.01), later(CIFAR100, 0.05)
LATER_CARS, LATER_CUB = later(CARS, 0.05), later(CUB, 0.01)
LATER_CPU = CIFAR100_CPU.training
SMOKE_LATER = later(SMOKE, 0.05)
SMOKE_INHERITANCE = Inheritance(good=SMOKE_TUNED, poor=poor(SMOKE_TUNED), training=SMOKE_LATER)


def figure_6_cifar10() -> Recipe:
    """Figure 6, CIFAR-10: training after the transfer."""
    cpu = Later(scene=CIFAR10_CPU, training=later(CIFAR10_CPU, 0.01, 5))
    return _figure_6(
        "cifar10",
        {
            "smoke": Later(scene=SMOKE, training=SMOKE_LATER),
            "cpu": cpu,
            "paper": Later(scene=CIFAR10, training=LATER_CIFAR10),
        },
        ((13.5, 91.08), (89.0, 91.89), (88.6, 91.93), (88.8, 91.99), (88.9, 91.87)),
        "cpu: a quarter of the width, 5 epochs of later training.",
    )


def figure_6_cifar100() -> Recipe:
    """Figure 6, CIFAR-100: training after the transfer."""
    return _figure_6(
        "cifar100",
        {
            "smoke": Later(scene=SMOKE_TUNED, training=SMOKE_LATER),
            "cpu": Later(scene=CIFAR100_CPU, training=LATER_CPU),
            "paper": Later(scene=CIFAR100, training=LATER_CIFAR100),
        },
        ((24.9, 64.84), (26.0, 64.80), (33.5, 65.65), (29.7, 65.59), (30.6, 65.23)),
        TUNED_NOTE,
    )


def figure_6_cars() -> Recipe:
    """Figure 6, Cars: training after the transfer."""
    return _figure_6(
        "cars",
        {
            "smoke": Later(scene=SMOKE_TUNED, training=SMOKE_LATER),
            "paper": Later(scene=CARS, training=LATER_CARS),
        },
        ((7.8, 83.82), (16.1, 85.63), (48.4, 86.20), (31.5, 85.18), (30.0, 86.08)),
    )


def figure_6_cub() -> Recipe:
    """Figure 6, CUB: training after the transfer."""
    return _figure_6(
        "cub",
        {
            "smoke": Later(scene=SMOKE_TUNED, training=SMOKE_LATER),
            "paper": Later(scene=CUB, training=LATER_CUB),
        },
        ((8.4, 69.50), (17.3, 68.50), (58.5, 71.12), (50.5, 73.68), (49.1, 73.18)),
    )


def figure_7() -> Recipe:
    """Figure 7: the plane through the target, the transferred network and the permuted source."""
    return Recipe(
        name="fig7",
        title="Figure 7: landscape and barriers, CIFAR-10 to CIFAR-100",
        scales={
            "smoke": Basins(scene=SMOKE_TUNED, training=SMOKE_LATER, points=3, examples=50),
            "cpu": Basins(scene=CIFAR100_CPU, training=LATER_CPU, points=11, examples=400),
            "paper": Basins(scene=CIFAR100, training=LATER_CIFAR100, points=21, examples=5000),
        },
        costs={
            "smoke": SECONDS,
            "cpu": "4 minutes on one core after Figure 6",
            "paper": "GPU hours after Figure 6",
        },
        axes=("fraction of the way from the trained target", "validation loss, nats"),
        percent=False,
        note="The paper shows pictures and no barrier heights. In them, the transferred network, "
        "after training, is in the basin of the target, and the permuted source in another.",
    )


def figure_8() -> Recipe:
    """Figure 8, at a scale for two cores: bases on 10% and on all of CIFAR-10."""
    base = CIFAR100_CPU.base
    assert base is not None
    return Recipe(
        name="fig8",
        title="Figure 8: inheritance from a better base, CIFAR-10 to CIFAR-100",
        scales={
            "smoke": SMOKE_INHERITANCE,
            "cpu": Inheritance(good=CIFAR100_CPU, poor=poor(CIFAR100_CPU), training=LATER_CPU),
            "paper": Inheritance(good=CIFAR100, poor=poor(CIFAR100), training=LATER_CIFAR100),
        },
        costs={"smoke": SECONDS, "cpu": "10 minutes on one core after the bases", "paper": HOURS},
        axes=("epoch", "validation accuracy"),
        note="The paper shows this for ImageNet bases: `fig8-cars` and `fig8-cub`. Compare the "
        "curves of the two bases under FGMT from the same source. " + TUNED_NOTE,
    )


def figure_8_cars() -> Recipe:
    """Figure 8, Cars: bases on 10% and on all of ImageNet."""
    return _figure_8("cars", CARS, LATER_CARS, (85.9, 84.0, 79.0, 80.1))


def figure_8_cub() -> Recipe:
    """Figure 8, CUB: bases on 10% and on all of ImageNet."""
    return _figure_8("cub", CUB, LATER_CUB, (72.0, 69.5, 61.8, 63.7))


def ensembles() -> Recipe:
    """Table E.2: ensembles with transferred members, CIFAR-100."""
    return _ensembles(
        "cifar100",
        {
            "smoke": Ensembles(scene=SMOKE_TUNED, training=SMOKE_LATER),
            "cpu": Ensembles(scene=CIFAR100_CPU, training=LATER_CPU),
            "paper": Ensembles(scene=CIFAR100, training=LATER_CIFAR100),
        },
        (70.41, 69.53, 69.81),
    )


def ensembles_cars() -> Recipe:
    """Table E.2: ensembles with transferred members, Cars."""
    training = later(CARS, 0.05, 20)
    scales: dict[Scale, PairExperiment] = {
        "smoke": Ensembles(scene=SMOKE_TUNED, training=SMOKE_LATER),
        "paper": Ensembles(scene=CARS, training=training),
    }
    return _ensembles("cars", scales, (86.83, 86.61, 87.10))


def ensembles_cub() -> Recipe:
    """Table E.2: ensembles with transferred members, CUB."""
    training = later(CUB, 0.01, 10)
    scales: dict[Scale, PairExperiment] = {
        "smoke": Ensembles(scene=SMOKE_TUNED, training=SMOKE_LATER),
        "paper": Ensembles(scene=CUB, training=training),
    }
    return _ensembles("cub", scales, (74.71, 75.62, 74.02))


def ensembles_cifar10() -> Recipe:
    """Table E.2: ensembles with transferred members, CIFAR-10."""
    training = later(CIFAR10, 0.01, 50)
    scales: dict[Scale, PairExperiment] = {
        "smoke": Ensembles(scene=SMOKE, training=SMOKE_LATER),
        "paper": Ensembles(scene=CIFAR10, training=training),
    }
    return _ensembles("cifar10", scales, (92.01, 92.11, 92.26))


def _figure_6(
    data: str,
    scales: dict[Scale, PairExperiment],
    published: tuple[tuple[float, float], ...],
    note: str = "",
) -> Recipe:
    """`published`: after epoch 1 and after the last, of each of METHODS."""
    shown: dict[str, float] = {}
    for name, (first, final) in zip(METHODS, published, strict=True):
        shown |= {f"{name}, at 1": first, f"{name}, last": final}
    return Recipe(
        name=f"fig6-{data}",
        title=f"Figure 6, {data}: training after the transfer",
        scales=scales,
        costs={"smoke": SECONDS, "cpu": "30 minutes on one core after the bases", "paper": HOURS},
        axes=("epoch", "validation accuracy"),
        published=shown,
        note=note,
    )


def _figure_8(
    data: str, scene: Scene, training: TrainSettings, published: tuple[float, ...]
) -> Recipe:
    names = (
        "fgmt, poor to good base",
        "standard from good base",
        "fgmt, poor to poor base",
        "standard from poor base",
    )
    return Recipe(
        name=f"fig8-{data}",
        title=f"Figure 8, ImageNet to {data}: inheritance from a better base",
        scales={
            "smoke": SMOKE_INHERITANCE,
            "paper": Inheritance(good=scene, poor=poor(scene), training=training),
        },
        costs={"smoke": SECONDS, "paper": HOURS},
        axes=("epoch", "validation accuracy"),
        published={f"{n}, last": value for n, value in zip(names, published, strict=True)},
    )


def _ensembles(
    data: str, scales: dict[Scale, PairExperiment], published: tuple[float, float, float]
) -> Recipe:
    names = ("gmt", "fgmt", "standard")
    return Recipe(
        name=f"ensembles-{data}",
        title=f"Table E.2, {data}: ensembles of a source and a target",
        scales=scales,
        costs={"smoke": SECONDS, "cpu": "2 minutes on one core after Figure 6", "paper": HOURS},
        published={f"{n}: accuracy": value for n, value in zip(names, published, strict=True)},
        note="Probabilities of the members are averaged. "
        + (TUNED_NOTE if "cpu" in scales else ""),
    )
