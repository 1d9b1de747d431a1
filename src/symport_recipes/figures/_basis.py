"""Figure 3, Theorem 3.1 and Lemma 3.2: the assumptions of the method."""

from dataclasses import replace

from symport_recipes.experiments import Drift, Similarity, Theorem31
from symport_recipes.runner import HOURS, SECONDS, Recipe
from symport_recipes.setups import (
    CIFAR10,
    CIFAR10_CPU,
    CIFAR100,
    CIFAR100_CPU,
    CUB,
    IMAGENET,
    MNIST,
    SMOKE,
    SMOKE_TUNED,
    mlp_scene,
)

ITERATIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def figure_3_mlp() -> Recipe:
    """Figure 3, left: 2-MLPs on MNIST, by width."""
    widths = (8, 16, 32, 64, 128)
    wide = {f"width {n}": mlp_scene(MNIST, (784, n, 10)) for n in widths}
    published = {"width 128, matched, at 10": 0.65, "width 128, matched, at 100": 0.60}
    for n, value in zip(widths, (0.46, 0.41, 0.54, 0.54, 0.51), strict=True):
        published[f"width {n}, matched, at 500"] = value
    return Recipe(
        name="fig3-mlp",
        title="Figure 3: similar trajectories, 2-MLPs on MNIST",
        scales={
            "smoke": Similarity(scenes={"small": SMOKE}, iterations=(1, 2, 5)),
            "paper": Similarity(scenes=wide, iterations=ITERATIONS),
        },
        costs={"smoke": SECONDS, "paper": "20 seconds on one core"},
        axes=("iteration", "cosine of updates"),
        percent=False,
        published=published,
        note="The permutation solves eq. 4 over the iterations shown, not over all iterations.",
    )


def figure_3_conv8() -> Recipe:
    """Figure 3, middle: Conv8 from random weights on CIFAR-10."""
    default = replace(CIFAR10_CPU, gain=None)
    narrow = {"conv8, gain 1": CIFAR10_CPU, "conv8": default}
    return Recipe(
        name="fig3-conv8",
        title="Figure 3: similar trajectories, Conv8 on CIFAR-10",
        scales={
            "smoke": Similarity(scenes={"conv8": SMOKE}, iterations=(1, 3)),
            "cpu": Similarity(scenes=narrow, iterations=ITERATIONS),
            "paper": Similarity(scenes={"conv8": CIFAR10}, iterations=ITERATIONS),
        },
        costs={"smoke": SECONDS, "cpu": "8 minutes on one core", "paper": "GPU minutes"},
        axes=("iteration", "cosine of updates"),
        percent=False,
        published={
            "conv8, matched, at 10": 0.88,
            "conv8, matched, at 100": 0.93,
            "conv8, matched, at 500": 0.34,
            "conv8, identity, at 10": 0.67,
            "conv8, identity, at 100": 0.77,
            "conv8, identity, at 500": 0.04,
        },
        note="cpu: a quarter of the width, batches of 64. The paper uses PyTorch's default "
        "initialization. From there, as long as the loss of Conv8 is on its initial plateau, "
        "updates are similar, but nearly as similar without a permutation, here as in the paper. "
        "The published cosines fall by iteration 500, when the narrow network is still on the "
        "plateau. With weights of gain 1 it has left the plateau by iteration 100: then the "
        "cosine of the identity is near 0 and the matched cosine is not, as published.",
    )


def figure_3_tuned() -> Recipe:
    """Figure 3, right: Conv8 from CIFAR-10 to CIFAR-100; at paper scale ResNet-18 as well."""
    whole = {"conv8": CIFAR100, "resnet18, imagenet": IMAGENET, "resnet18, cub": CUB}
    published = {
        f"{name}, matched, at {t}": value
        for name, values in (
            ("conv8", (0.69, 0.11, 0.07)),
            ("resnet18, imagenet", (0.32, 0.31, 0.48)),
            ("resnet18, cub", (0.29, 0.16, 0.11)),
        )
        for t, value in zip((10, 100, 500), values, strict=True)
    }
    return Recipe(
        name="fig3-tuned",
        title="Figure 3: similar trajectories from trained bases, and ResNet-18",
        scales={
            "smoke": Similarity(scenes={"conv8": SMOKE_TUNED}, iterations=(1, 3)),
            "cpu": Similarity(scenes={"conv8": CIFAR100_CPU}, iterations=ITERATIONS),
            "paper": Similarity(scenes=whole, iterations=ITERATIONS),
        },
        costs={"smoke": SECONDS, "cpu": "4 minutes on one core after the bases", "paper": HOURS},
        axes=("iteration", "cosine of updates"),
        percent=False,
        published=published,
        note="cpu: a quarter of the width, 25 classes.",
    )


def theorem_31() -> Recipe:
    """Theorem 3.1: matched gradients against the width N."""
    return Recipe(
        name="theorem31",
        title="Theorem 3.1: distance of matched gradients against N",
        scales={
            "smoke": Theorem31(data="digits", widths=(16, 64), examples=200),
            "cpu": Theorem31(data="mnist", widths=tuple(2**k for k in range(4, 12)), examples=2000),
        },
        costs={"smoke": SECONDS, "cpu": "20 seconds on one core"},
        axes=("N", "normalised distance"),
        percent=False,
        note="By the theorem, the matched distance decreases with N; no number is published. The "
        "distances of the identity and of a random permutation decrease too, from 1.4 to 1.0: no "
        "label is negative here, so the gradients of the output layer have the same sign, and "
        "their share of the norm grows with N.",
    )


def lemma_32() -> Recipe:
    """Lemma 3.2: the drift of the transferred path between consecutive permutations."""
    return Recipe(
        name="lemma32",
        title="Lemma 3.2: drift of the transferred path between consecutive permutations",
        scales={
            "smoke": Drift(scene=SMOKE),
            "cpu": Drift(scene=replace(CIFAR10_CPU, steps=10)),
            "paper": Drift(scene=CIFAR10),
        },
        costs={
            "smoke": SECONDS,
            "cpu": "5 minutes on one core after the source",
            "paper": "GPU minutes after the source",
        },
        axes=("step s", "drift / displacement"),
        percent=False,
        note="FGMT assumes that the drift is small; for two unrelated permutations it is √2. At "
        "cpu scale (T=10) it is hardly smaller: permutations change much from step to step as "
        "long as the transfer has little effect, which is up to the last step there.",
    )
