"""For every test: one thread, hypothesis without a time limit and, in CI, without luck."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for subprocesses

import torch
from hypothesis import settings

# On models this small threads cost more than they bring, most of all where cores are shared.
torch.set_num_threads(1)

# A busy machine is no failure. CI draws the same examples each time; elsewhere new ones are tried.
settings.register_profile("unhurried", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unhurried")
