"""What settings may be, apart from what they do: the command line's help needs no torch."""

METHODS: tuple[str, ...] = ("fgmt", "gmt", "weights", "naive")
LOSS_NAMES: tuple[str, ...] = ("cross-entropy", "mse")
MAX_SEED = 2**32 - 1  # torch's generator on the CPU ignores all higher bits
