"""The settings of appendix D as scenes, at the paper's scale and at one for two CPU cores."""

from dataclasses import replace
from functools import partial

from symport_recipes.networks import conv8, mlp, resnet18, two_layer_mlp
from symport_recipes.setups._scene import Scene
from symport_recipes.training import TrainSettings

# One object for each network, so that its symmetry is found once.
SMALL = partial(mlp, [64, 32, 32, 10])
QUARTER, QUARTER_25 = partial(conv8, width=0.25), partial(conv8, 25, width=0.25)
CONV8_100, RESNET_CARS, RESNET_CUB = (
    partial(conv8, 100),
    partial(resnet18, 196),
    partial(resnet18, 200),
)

SMOKE = Scene(
    model=SMALL,
    data="digits",
    training=TrainSettings(epochs=2, batch_size=64, lr=0.1),
    steps=3,
)
SMOKE_TUNED = replace(SMOKE, base=replace(SMOKE, share=0.5))

MNIST = Scene(
    model=two_layer_mlp,
    data="mnist",
    training=TrainSettings(epochs=15, lr=0.01),
    steps=5,
)
MNIST_FAST = replace(MNIST, training=replace(MNIST.training, lr=0.1))

_CIFAR10 = TrainSettings(epochs=60, lr=0.05, weight_decay=1e-4, schedule="cosine", augment=True)
CIFAR10 = Scene(model=conv8, data="cifar10", training=_CIFAR10, steps=30, batch_size=256)
# PyTorch's default weights leave the narrow network on its plateau: see `initial`.
CIFAR10_CPU = replace(
    CIFAR10,
    model=QUARTER,
    training=replace(_CIFAR10, epochs=24, batch_size=64),
    steps=10,
    gain=1.0,
    ring=3,
)

CIFAR100 = replace(
    CIFAR10,
    model=CONV8_100,
    data="cifar100",
    training=replace(_CIFAR10, epochs=30),
    steps=15,
    base=CIFAR10,
)
CIFAR100_CPU = replace(
    CIFAR100,
    model=QUARTER_25,
    training=replace(CIFAR10_CPU.training, epochs=3),
    steps=10,
    gain=1.0,
    ring=3,
    base=CIFAR10_CPU,
)

_TUNING = TrainSettings(epochs=30, lr=0.1, weight_decay=1e-4, schedule="cosine", augment=True)
IMAGENET = Scene(
    model=resnet18,
    data="imagenet",
    training=replace(_TUNING, epochs=100, warmup_epochs=5),
    steps=40,
    batch_size=12800,
    statistics_size=2560,
)
CARS = Scene(
    model=RESNET_CARS,
    data="cars",
    training=_TUNING,
    steps=15,
    batch_size=640,
    statistics_size=256,
    base=IMAGENET,
)
CUB = replace(CARS, model=RESNET_CUB, data="cub")


def poor(scene: Scene, share: float = 0.1) -> Scene:
    """The same scene on a base that is trained on a share of its data (Figure 8)."""
    assert scene.base is not None
    return replace(scene, base=replace(scene.base, share=share))


def mlp_scene(scene: Scene, sizes: tuple[int, ...]) -> Scene:
    """The same scene with an MLP of these sizes."""
    return replace(scene, model=partial(mlp, sizes))


def mnist_cpu(lr: float = 0.01) -> Scene:
    """2-MLP of width 1024 on MNIST, 5 epochs; at the rate .01 alignment matters up to the end."""
    training = replace(MNIST.training, lr=lr, epochs=5)
    return mlp_scene(replace(MNIST, training=training, ring=3), (784, 1024, 10))
