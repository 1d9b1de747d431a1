"""Run the command line by `python -m symport`, as torchrun does."""

from symport.cli import main

main()
