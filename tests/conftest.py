"""For every test: one thread, hypothesis without a time limit and, in CI, without luck."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for subprocesses

import torch
from hypothesis import settings

# Where the official data are beside the repository, the tests use them.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if DATA.is_dir():
    os.environ.setdefault("SYMPORT_DATA", str(DATA))

# On models this small threads cost more than they bring, most of all where cores are shared.
torch.set_num_threads(1)

# A busy machine is no failure. CI draws the same examples each time; elsewhere new ones are tried.
settings.register_profile("unhurried", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unhurried")
