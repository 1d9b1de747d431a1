"""The runner: experiments run seed by seed, their results kept in files and put on a page."""

from symport_recipes.runner._experiment import Experiment, run
from symport_recipes.runner._page import Result, write_page
from symport_recipes.runner._pairs import Found, PairExperiment, read_outcomes
from symport_recipes.runner._processes import device_of, join, share
from symport_recipes.runner._recipe import (
    HOURS,
    SCALES,
    SECONDS,
    TUNED_NOTE,
    Recipe,
    Scale,
    best,
    last,
)
from symport_recipes.runner._rows import RowExperiment
from symport_recipes.runner._tables import markdown, mean_sd, sd

__all__ = [
    "HOURS",
    "SCALES",
    "SECONDS",
    "TUNED_NOTE",
    "Experiment",
    "Found",
    "PairExperiment",
    "Recipe",
    "Result",
    "RowExperiment",
    "Scale",
    "best",
    "device_of",
    "join",
    "last",
    "markdown",
    "mean_sd",
    "read_outcomes",
    "run",
    "sd",
    "share",
    "write_page",
]
