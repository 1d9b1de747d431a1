"""Every figure and table of the paper, by the name of its recipe."""

from symport_recipes.figures import _after as after
from symport_recipes.figures import _basis as basis
from symport_recipes.figures import _beyond as beyond
from symport_recipes.figures import _transfers as transfers
from symport_recipes.runner import Recipe

__all__ = ["FIGURES"]

_ALL: tuple[Recipe, ...] = (
    basis.figure_3_mlp(),
    basis.figure_3_conv8(),
    basis.figure_3_tuned(),
    basis.theorem_31(),
    basis.lemma_32(),
    transfers.figure_4(),
    transfers.figure_5_mnist(0.01),
    transfers.figure_5_mnist(0.1),
    transfers.figure_5_cifar10(),
    transfers.figure_5_cifar100(),
    transfers.figure_5_imagenet(),
    transfers.figure_5_cars(),
    transfers.figure_5_cub(),
    after.figure_6_cifar10(),
    after.figure_6_cifar100(),
    after.figure_6_cars(),
    after.figure_6_cub(),
    after.figure_7(),
    after.figure_8(),
    after.figure_8_cars(),
    after.figure_8_cub(),
    after.ensembles_cifar10(),
    after.ensembles(),
    after.ensembles_cars(),
    after.ensembles_cub(),
    transfers.figure_9_mnist(),
    transfers.figure_9_cifar10(),
    transfers.figure_9_imagenet(),
    beyond.sensitivity_to_steps(),
    beyond.sensitivity_to_batches(),
    beyond.adam_sources(),
    beyond.other_starts(),
    beyond.lengths(),
)
FIGURES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
