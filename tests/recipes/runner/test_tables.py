import numpy as np

from symport_recipes.runner import mean_sd, sd


def test_mean_and_spread_follow_numpy():
    values = [0.1, 0.25, 0.7]
    mean, spread = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    assert mean_sd(values, digits=2) == f"{mean:.2f}\u2009±\u2009{spread:.2f}"
    assert mean_sd([3.5], percent=False) == "3.5"
    assert sd([0.5]) == 0
