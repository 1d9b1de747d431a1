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
        FileError: It has one that cannot be loaded.
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
    """Raise unless two tokenizers give every token the same number; None passes.

    Raises:
        ParamsError: They do not; the message lists tokens.
    """
    if old is None or new is None:
        return
    ours, theirs = old.get_vocab(), new.get_vocab()
    odd = sorted(t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t))
    if odd:
        raise ParamsError(
            f"the tokenizers of the bases differ in {len(odd)} tokens: {listed(map(repr, odd))}; "
            "a port needs bases that read text alike"
        )


def about_tokens(first: Path, other: Path) -> str:
    """Which tokens of two models differ, and what to do about their vocabularies' sizes."""
    known = [reader.get_vocab() if reader else {} for reader in map(load_tokenizer, (first, other))]
    ours, theirs = known
    if moved := [token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token]]:
        return (
            f"; {len(moved)} tokens have other numbers: {listed(sorted(map(repr, moved)))}; a port "
            "needs models that read text alike"
        )
    added = sorted(map(repr, ours.keys() ^ theirs.keys()))
    tokens = f"; only one has the tokens {listed(added)}" if added else ""
    return (
        f"{tokens}; give the smaller models as many rows first: load them with transformers, call "
        "resize_token_embeddings with the larger size, and save them"
    )


@contextmanager
def quiet_transformers() -> Generator[None]:
    """Keep transformers from printing what our own messages say better."""
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
