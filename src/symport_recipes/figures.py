"""The paper's figures as settings (Chijiwa 2024; appendix D)."""

from symport_recipes.data import digits, load
from symport_recipes.experiment import Experiment
from symport_recipes.models import digits_mlp, two_layer_mlp
from symport_recipes.training import TrainSettings


def figure_5_mnist(lr: float = 0.01) -> Experiment:
    """Figure 5, MNIST: a 784-4096-10 MLP; the printed rate is .01. 15 min on two cores."""
    return Experiment(
        name=f"fig5-mnist-lr{lr:g}",
        title=f"Figure 5, MNIST, 2-MLP of width 4096, lr {lr:g}",
        model=two_layer_mlp,
        data=lambda: load("mnist"),
        training=TrainSettings(epochs=15, batch_size=128, lr=lr),
        steps=5,
        batch_size=128,
        published={"naive": 97.74, "oracle": 97.95, "gmt": 98.06, "fgmt": 97.94},
        cost="15 minutes on two cores",
    )


def smoke() -> Experiment:
    """The same on scikit-learn's digits, to see that everything runs. 10 s."""
    return Experiment(
        name="smoke",
        title="Smoke test: digits, 3-MLP",
        model=digits_mlp,
        data=digits,
        training=TrainSettings(epochs=3, batch_size=128, lr=0.1),
        steps=3,
        batch_size=128,
        cost="10 seconds",
    )


FIGURES = {
    experiment.name: experiment
    for experiment in (figure_5_mnist(0.01), figure_5_mnist(0.1), smoke())
}
