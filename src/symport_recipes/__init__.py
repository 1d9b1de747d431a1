"""The experiments of the paper as recipes over symport."""
