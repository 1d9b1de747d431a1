import inspect

import pytest
from cases import present

from symport_recipes.experiments import Inheritance, Later
from symport_recipes.figures import FIGURES
from symport_recipes.figures import _after as after
from symport_recipes.figures import _basis as basis
from symport_recipes.figures import _beyond as beyond
from symport_recipes.figures import _transfers as transfers
from symport_recipes.runner import SCALES, Result, run
from symport_recipes.runner._page import comparison
from symport_recipes.setups import CARS, CIFAR10, CIFAR100, CUB, IMAGENET, MNIST, Bench

SMOKES = [name for name, recipe in FIGURES.items() if "smoke" in recipe.scales]
QUICK = ["fig5-cifar10", "fig8", "ensembles-cifar100", "fig3-conv8"]
METHODS = ("naive", "oracle", "gmt", "fgmt", "standard")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SMOKES]
)
def test_the_smoke_scale_gives_what_the_page_compares(name, tmp_path):
    recipe = FIGURES[name]
    outcomes = run(recipe.scales["smoke"], tmp_path / name, [0], Bench(tmp_path), progress=False)
    rows = {row[0] for row in comparison(Result(recipe, "smoke", outcomes))}
    x = outcomes[0].found.x
    ours = {
        key
        for key in recipe.published
        if key.startswith(METHODS) and not (", at " in key and float(key.split(" at ")[1]) not in x)
    }
    assert ours <= rows


def test_a_recipe_says_what_each_of_its_scales_costs():
    for name, recipe in FIGURES.items():
        assert name == recipe.name
        assert recipe.scales.keys() <= recipe.costs.keys() & set(SCALES)
        assert "smoke" in recipe.scales


def test_every_figure_is_at_most_forty_lines_of_settings():
    for module in (after, basis, beyond, transfers):
        for name, value in inspect.getmembers(module, inspect.isfunction):
            if value.__module__ == module.__name__:
                assert len(inspect.getsource(value).splitlines()) <= 40, name


# Appendix D: epochs, rate, decay, matching batch, T, BatchNorm's samples.
PRINTED = {
    "mnist": (MNIST, 15, 0.01, 0, 128, 5, None),
    "cifar10": (CIFAR10, 60, 0.05, 1e-4, 128 * 2, 30, None),
    "cifar100": (CIFAR100, 30, 0.05, 1e-4, 128 * 2, 15, None),
    "imagenet": (IMAGENET, 100, 0.1, 1e-4, 128 * 100, 40, 128 * 20),
    "cars": (CARS, 30, 0.1, 1e-4, 128 * 5, 15, 128 * 2),
    "cub": (CUB, 30, 0.1, 1e-4, 128 * 5, 15, 128 * 2),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_settings_of_paper_scale_are_the_printed_ones(name):
    scene, epochs, lr, decay, batch, steps, statistics = PRINTED[name]
    training = scene.training
    assert scene.data == name
    assert (training.epochs, training.lr, training.weight_decay) == (epochs, lr, decay)
    assert (training.batch_size, training.momentum, training.optimizer) == (128, 0.9, "sgd")
    assert training.schedule == ("constant" if name == "mnist" else "cosine")
    assert training.warmup_epochs == (5 if name == "imagenet" else 0)
    assert (scene.batch_size, scene.steps) == (batch, steps)
    assert statistics in (None, scene.statistics_size)


def test_bases_are_those_of_the_paper():
    assert (CIFAR100.base, CARS.base, CUB.base) == (CIFAR10, IMAGENET, IMAGENET)
    experiment = FIGURES["fig8-cars"].scales["paper"]
    assert isinstance(experiment, Inheritance)
    assert present(experiment.poor.base).share == 0.1
    assert present(experiment.good.base).share == 1


def test_later_rates_are_the_printed_ones():
    rates = {}
    for name in ("cifar10", "cifar100", "cars", "cub"):
        experiment = FIGURES[f"fig6-{name}"].scales["paper"]
        assert isinstance(experiment, Later)
        rates[name] = experiment.training.lr
    assert rates == {"cifar10": 0.01, "cifar100": 0.05, "cars": 0.05, "cub": 0.01}
