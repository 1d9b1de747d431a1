"""Tokenizers of model folders, and in which tokens they differ."""

from collections.abc import Generator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any

from symport.errors import FileError, ParamsError, brief
from symport.params import listed

FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, or None if it has none.

    Raises:
        FileError: The tokenizer cannot be loaded.

    Example:
        >>> load_tokenizer(gpt2) is None  # it has only a configuration and weights
        True
    """
    import transformers

    there = sorted(path.name for pattern in FILES for path in folder.glob(pattern))
    if not there:
        return None
    try:
        with quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the Rust library under it is no Exception
        raise FileError(
            f"{folder}: its tokenizer cannot be loaded ({brief(error)}); copy "
            f"{', '.join(there[:3])} again, or write them with the tokenizer's save_pretrained"
        ) from error


def check_tokenizers(old: Any, new: Any) -> None:
    """Raise ParamsError unless two tokenizers assign the same numbers to the same tokens.

    Args:
        old: A tokenizer of transformers, or None, which fits any.
        new: Another.

    Raises:
        ParamsError: They differ; the message lists tokens.

    Example:
        >>> from types import SimpleNamespace
        >>> old = SimpleNamespace(get_vocab=lambda: {"a": 0, "b": 1})
        >>> new = SimpleNamespace(get_vocab=lambda: {"a": 0, "b": 2})
        >>> check_tokenizers(old, new)
        Traceback (most recent call last):
            ...
        symport.errors.ParamsError: the tokenizers of the bases differ in 1 tokens: 'b'; ...
    """
    if old is None or new is None:
        return
    ours, theirs = old.get_vocab(), new.get_vocab()
    odd = sorted(t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t))
    if odd:
        raise ParamsError(
            f"the tokenizers of the bases differ in {len(odd)} tokens: {listed(map(repr, odd))}; "
            "a port needs bases with the same tokens"
        )


def about_tokens(first: Path, other: Path) -> str:
    """The tokens in which two models differ, and the next step, for an error message."""
    known = [reader.get_vocab() if reader else {} for reader in map(load_tokenizer, (first, other))]
    ours, theirs = known
    if moved := [token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token]]:
        return (
            f"; {len(moved)} tokens have other numbers: {listed(sorted(map(repr, moved)))}; a port "
            "needs models with the same tokens"
        )
    added = sorted(map(repr, ours.keys() ^ theirs.keys()))
    tokens = f"; only one has the tokens {listed(added)}" if added else ""
    return (
        f"{tokens}; give the smaller models as many rows first: load them with transformers, call "
        "resize_token_embeddings with the larger size, and save them"
    )


@contextmanager
def quiet_transformers() -> Generator[None]:
    """Disable the log messages and progress bars of transformers in the body.

    Example:
        >>> with quiet_transformers():
        ...     tokenizer = load_tokenizer(gpt2)
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
