"""What holds for every test: one thread, and no time limit on a single hypothesis example."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for subprocesses

import torch
from hypothesis import settings

# On models this small threads cost more than they bring, most of all where cores are shared.
torch.set_num_threads(1)

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
