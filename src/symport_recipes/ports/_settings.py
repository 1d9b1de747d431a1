"""How the experiments of porting are run."""

from symport.settings import Rules, checked

COUNTS = (16, 64, 256)
SEEDS = 3  # draws of the examples
# What `symport port` does, but for half of its folds, one learning rate and larger micro-batches.
RULES = checked(Rules, {"folds": 2, "learning_rates": (1e-3,), "micro_batch": 64})
