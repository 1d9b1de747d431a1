import math
import warnings

import pytest
import torch

from symport_recipes.training import TrainSettings
from symport_recipes.training._schedule import learning_rate, scheduled


def rates(settings: TrainSettings) -> list[float]:
    """The learning rates that an optimizer is given."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduled(
        optimizer,
        lr=settings.lr,
        ticks=settings.ticks,
        warmup=settings.warmup_epochs,
        schedule=settings.schedule,
    )
    found: list[float] = []
    for _ in range(settings.ticks):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_optimizer_is_given_the_rates_of_the_formula_to_the_bit():
    settings = TrainSettings(epochs=30, lr=0.3, schedule="cosine", warmup_epochs=7)
    expected = [learning_rate(t, lr=0.3, ticks=30, warmup=7, schedule="cosine") for t in range(30)]
    assert rates(settings) == expected


def test_a_resumed_schedule_goes_on_with_the_same_rates():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduled(optimizer, lr=0.3, ticks=30, warmup=7, schedule="cosine", done=11)
    settings = TrainSettings(epochs=30, lr=0.3, schedule="cosine", warmup_epochs=7)
    assert schedule.get_last_lr() == rates(settings)[11:12]


def test_a_constant_rate_stays():
    assert rates(TrainSettings(epochs=3, lr=0.01)) == [0.01] * 3


def test_the_cosine_is_that_of_pytorch():
    settings = TrainSettings(epochs=60, lr=0.05, schedule="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    witness = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
    expected: list[float] = []
    with warnings.catch_warnings(action="ignore"):  # it asks for an optimizer step in between
        for _ in range(60):
            expected.append(float(witness.get_last_lr()[0]))
            witness.step()
    assert rates(settings) == pytest.approx(expected, rel=1e-12)


def test_imagenet_warms_up_over_five_epochs():
    # Appendix D.3.2: over the first 5 epochs the rate rises, then falls along a cosine from .1.
    found = rates(TrainSettings(epochs=100, lr=0.1, schedule="cosine", warmup_epochs=5))
    assert found[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert found[52] == pytest.approx(0.05 * (1 + math.cos(math.pi * 47 / 95)))
    assert 0 < found[-1] < 1e-4


def test_a_length_in_steps_schedules_by_steps():
    settings = TrainSettings(steps=4, lr=1.0, schedule="cosine")
    assert settings.ticks == 4
    assert rates(settings)[2] == pytest.approx(0.5)
