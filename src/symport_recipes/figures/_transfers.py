"""Figures 4, 5 and 9: accuracy along the steps of a transfer."""

from dataclasses import replace

from symport_recipes.experiments import Curves
from symport_recipes.runner import HOURS, SECONDS, TUNED_NOTE, Recipe, best, last
from symport_recipes.setups import (
    CARS,
    CIFAR10,
    CIFAR10_CPU,
    CIFAR100,
    CIFAR100_CPU,
    CUB,
    IMAGENET,
    MNIST,
    MNIST_FAST,
    SMOKE,
    SMOKE_TUNED,
    Scene,
)


def figure_4() -> Recipe:
    """Figure 4: linear against recorded trajectories, Conv8 on CIFAR-10, T=60."""
    both = ("linear", "recorded")
    return Recipe(
        name="fig4",
        title="Figure 4: linear against recorded trajectories, Conv8 on CIFAR-10",
        scales={
            "smoke": Curves(scene=replace(SMOKE, steps=2), methods=("fgmt",), lines=both),
            "cpu": Curves(scene=replace(CIFAR10_CPU, steps=18), methods=("fgmt",), lines=both),
            "paper": Curves(scene=replace(CIFAR10, steps=60), methods=("fgmt",), lines=both),
        },
        costs={"smoke": SECONDS, "cpu": "1 hour on one core", "paper": HOURS},
        published={"fgmt, linear, last": 77.6, "fgmt, recorded, last": 66.8},
    )


def figure_5_mnist(lr: float = 0.01) -> Recipe:
    """Figure 5, MNIST: a 784-4096-10 MLP; the rate given in the paper is .01."""
    scene = MNIST if lr == MNIST.training.lr else MNIST_FAST
    smoke = replace(SMOKE, training=replace(SMOKE.training, lr=lr))
    return Recipe(
        name="fig5-mnist" if scene is MNIST else f"fig5-mnist-lr{lr:g}",
        title=f"Figure 5, MNIST: 2-MLP of width 4096, lr {lr:g}",
        scales={"smoke": Curves(scene=smoke), "paper": Curves(scene=scene)},
        costs={"smoke": SECONDS, "paper": "12 minutes on two cores"},
        published=last(97.74, 97.95, 98.06, 97.94),
        note="With the learning rate given in the paper, .01, no method reaches the published "
        "numbers. With .1 they are reached, but then the permutation makes hardly any difference "
        "at the last step; it does in the first steps.",
    )


def figure_5_cifar10() -> Recipe:
    """Figure 5, CIFAR-10: Conv8 from random weights."""
    times = {
        "naive": (12.4, 28.8, 40.9, 53.0),
        "gmt": (12.2, 45.8, 63.7, 68.9),
        "fgmt": (16.8, 51.6, 67.5, 74.3),
        "oracle": (26.6, 59.4, 69.5, 76.4),
    }
    shown = {
        f"{name}, at {t}": value
        for name, values in times.items()
        for t, value in zip((20, 24, 26, 28), values, strict=True)
    }
    return Recipe(
        name="fig5-cifar10",
        title="Figure 5, CIFAR-10: Conv8 from random weights",
        scales={
            "smoke": Curves(scene=SMOKE),
            "cpu": Curves(scene=CIFAR10_CPU),
            "paper": Curves(scene=CIFAR10),
        },
        costs={"smoke": SECONDS, "cpu": "45 minutes on one core", "paper": "2 GPU hours"},
        published={**last(61.9, 78.3, 76.7, 78.2), **shown},
        note="cpu: a quarter of the width, 24 epochs, batches of 64, T=10, 30,000 of the 50,000 "
        "images, and an initialization of gain 1: with PyTorch's default, the loss of the narrow "
        "network stays on its plateau; with larger weights, the norm of the displacement stays "
        "below that of the start, and the transfer has no effect. Three networks make three "
        "pairs: each is a source once and a target once. GMT and FGMT rise first and end above "
        "Naive, as in the paper, but at the last step the rise has only begun. The Oracle, which "
        "aligns displacements and not gradients, is little better than Naive. `starts` shows why, "
        "and `lengths` shows that accuracy rises further with a larger scale of the displacement.",
    )


def figure_5_cifar100() -> Recipe:
    """Figure 5, CIFAR-10 to CIFAR-100."""
    return Recipe(
        name="fig5-cifar100",
        title="Figure 5, CIFAR-10 to CIFAR-100: Conv8 from trained bases",
        scales={
            "smoke": Curves(scene=SMOKE_TUNED),
            "cpu": Curves(scene=CIFAR100_CPU),
            "paper": Curves(scene=CIFAR100),
        },
        costs={"smoke": SECONDS, "cpu": "8 minutes on one core after the bases", "paper": HOURS},
        published={**best(1.21, 6.90, 6.76, 6.40), "gmt, last": 3.26, "fgmt, last": 3.55},
        note=TUNED_NOTE,
    )


def figure_5_imagenet() -> Recipe:
    """Figure 5, ImageNet: ResNet-18 from random weights."""
    return Recipe(
        name="fig5-imagenet",
        title="Figure 5, ImageNet: ResNet-18 from random weights",
        scales={"smoke": Curves(scene=SMOKE), "paper": Curves(scene=IMAGENET)},
        costs={"smoke": SECONDS, "paper": "2 GPU weeks"},
        published=last(48.51, 49.29, 48.67, 49.65),
    )


def figure_5_cars() -> Recipe:
    """Figure 5, ImageNet to Stanford Cars."""
    return _tuned_resnet(
        "fig5-cars",
        "Figure 5, ImageNet to Cars: ResNet-18",
        CARS,
        {
            **best(1.06, 13.9, 7.53, 7.21),
            "oracle, last": 13.9,
            "gmt, last": 1.92,
            "fgmt, last": 2.33,
        },
    )


def figure_5_cub() -> Recipe:
    """Figure 5, ImageNet to CUB-200-2011."""
    return _tuned_resnet(
        "fig5-cub",
        "Figure 5, ImageNet to CUB: ResNet-18",
        CUB,
        {**best(0.83, 30.1, 21.7, 20.4), "oracle, last": 26.8, "gmt, last": 6.4, "fgmt, last": 7.5},
    )


def figure_9_mnist() -> Recipe:
    """Figure 9 (E.1), MNIST: the recorded trajectory."""
    short = replace(MNIST_FAST, training=replace(MNIST_FAST.training, epochs=5), ring=3)
    return Recipe(
        name="fig9-mnist",
        title="Figure 9, MNIST: recorded trajectories, 2-MLP of width 4096",
        scales={
            "smoke": Curves(scene=replace(SMOKE, steps=2), lines=("recorded",)),
            "cpu": Curves(scene=short, lines=("recorded",)),
            "paper": Curves(scene=replace(MNIST, steps=15), lines=("recorded",)),
        },
        costs={
            "smoke": SECONDS,
            "cpu": "5 minutes on one core",
            "paper": "20 minutes on two cores",
        },
        published={"gmt, last": 97.93, "fgmt, last": 97.98},
        note="cpu: the full network, 5 epochs at lr .1 instead of 15 at .01; three networks, each "
        "a source once and a target once. A step is an epoch.",
    )


def figure_9_cifar10() -> Recipe:
    """Figure 9 (E.1), CIFAR-10: the recorded trajectory."""
    return _figure_9("cifar10", CIFAR10, last(61.9, 74.8, 70.5, 73.4))


def figure_9_imagenet() -> Recipe:
    """Figure 9 (E.1), ImageNet: the recorded trajectory."""
    return _figure_9("imagenet", IMAGENET, last(22, 22, 22, 22))


def _tuned_resnet(name: str, title: str, scene: Scene, published: dict[str, float]) -> Recipe:
    return Recipe(
        name=name,
        title=title,
        scales={"smoke": Curves(scene=SMOKE_TUNED), "paper": Curves(scene=scene)},
        costs={"smoke": SECONDS, "paper": "2 GPU hours after the bases"},
        published=published,
    )


def _figure_9(data: str, scene: Scene, published: dict[str, float]) -> Recipe:
    return Recipe(
        name=f"fig9-{data}",
        title=f"Figure 9, {data}: recorded trajectories",
        scales={
            "smoke": Curves(scene=replace(SMOKE, steps=2), lines=("recorded",)),
            "paper": Curves(scene=scene, lines=("recorded",)),
        },
        costs={"smoke": SECONDS, "paper": HOURS},
        published=published,
    )
