"""Texts as rows of tokens: truncated to a maximum length, padded, with a mask.

A decoder used as a classifier takes its output at the last token that is not padding, which it
recognises by the padding token. So no text may contain that token, or another output is taken.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from symport.errors import DataError
from symport.tasks._lines import Line
from symport.tasks._records import Tokens, tokens_of

IGNORED = -100  # as in transformers: a position without a label


@dataclass(frozen=True, eq=False)
class Texts:
    """A batch of texts.

    Attributes:
        rows: Tokens and their mask, shape `(n, 2, length)`, padded on the right.
        counted: Which tokens are part of the loss, shape `(n, length)`, bool.
        names: File and line of each.
        notes: Sentences on them for the user.
        pad: The padding token that was chosen if the configuration has none, or None.
    """

    rows: Tensor
    counted: Tensor
    names: Sequence[str]
    notes: Sequence[str]
    pad: int | None = None


def read_texts(
    lines: Sequence[Line],
    tokenizer: Any,
    config: Any,
    *,
    max_length: int,
    answers: bool,
    pads: bool,
) -> Texts:
    """The tokens of records.

    Args:
        lines: The records, in one of the layouts of `tokens_of`.
        tokenizer: A tokenizer of transformers.
        config: The model's configuration, for the sizes of its vocabulary and positions.
        max_length: Maximum number of tokens; the model may accept fewer.
        answers: Whether the loss is over tokens, of which a text then needs at least 2.
        pads: Whether the model recognises padding by its token.

    Raises:
        DataError: A record has another layout or cannot be tokenized; the message names its
            location.
    """
    inner = config.get_text_config()
    limit, why = _limit(max_length, inner, tokenizer)
    whole = [tokens_of(line, tokenizer) for line in lines]
    for line, tokens in zip(lines, whole, strict=True):
        _check(line, tokens, inner.vocab_size, limit, answers=answers)
    special = () if answers else tokenizer.all_special_ids
    texts = [_cut(tokens, limit, special) for tokens in whole]
    notes = sorted({tokens.note for tokens in whole if tokens.note and answers})
    if count := sum(len(tokens.ids) > limit for tokens in whole):
        were = "text was" if count == 1 else "texts were"
        notes.append(f"{count} of {len(whole)} {were} cut at {limit} tokens: {why}.")
    known = valid_pad(config)
    pad = None
    if pads and known is None:
        pad = _unused(texts, tokenizer, inner)
        named = tokenizer.convert_ids_to_tokens(pad)
        notes.append(
            f"The fine-tune's configuration has no pad_token_id, by which a classifier finds the "
            f"end of a text: {pad} ({named!r}) pads the texts, none of which holds it. Pad with "
            "it, too."
        )
    length = max(len(tokens.ids) for tokens in texts)
    rows = torch.zeros(len(texts), 2, length, dtype=torch.int64)
    rows[:, 0] = next(token for token in (pad, known, 0) if token is not None)
    counted = torch.zeros(len(texts), length, dtype=torch.bool)
    for k, tokens in enumerate(texts):
        size = len(tokens.ids)
        rows[k, 0, :size] = torch.tensor(tokens.ids)
        rows[k, 1, :size] = 1
        counted[k, :size] = torch.tensor(tokens.counted)
    return Texts(rows, counted, [line.where for line in lines], notes, pad)


def valid_pad(config: Any) -> int | None:
    """The padding token of a configuration, or None if it is not in the vocabulary.

    Args:
        config: A configuration of transformers.

    Example:
        >>> from transformers import GPT2Config
        >>> valid_pad(GPT2Config(vocab_size=16, pad_token_id=3))
        3
        >>> valid_pad(GPT2Config(vocab_size=16, pad_token_id=16)) is None
        True
    """
    for known in (config, config.get_text_config()):
        pad = getattr(known, "pad_token_id", None)
        if isinstance(pad, int) and 0 <= pad < known.get_text_config().vocab_size:
            return pad
    return None


def _limit(max_length: int, config: Any, tokenizer: Any) -> tuple[int, str]:
    """The maximum number of tokens of a text, and what imposes it."""
    limits = {
        "max_length": max_length,
        "the model has no more positions": getattr(config, "max_position_embeddings", None),
        "the tokenizer's model_max_length": getattr(tokenizer, "model_max_length", None),
    }
    found = {why: int(n) for why, n in limits.items() if isinstance(n, int | float) and n >= 1}
    why = min(found, key=found.__getitem__)
    return found[why], why


def _check(line: Line, tokens: Tokens, vocabulary: int, limit: int, *, answers: bool) -> None:
    least = 2 if answers else 1
    if len(tokens.ids) < least:
        raise DataError(
            f"{line.where}: is {len(tokens.ids)} tokens long, and at least {least} are needed"
        )
    if max(tokens.ids) >= vocabulary:
        raise DataError(
            f"{line.where}: has the token {max(tokens.ids)}, beyond the model's vocabulary of "
            f"{vocabulary}; is it the right tokenizer?"
        )
    if answers and not any(tokens.counted[1:limit]):
        raise DataError(
            f"{line.where}: its answer begins after the first {limit} tokens, where the text is "
            "cut; allow more (max_length), or leave the example out"
        )


def _cut(tokens: Tokens, limit: int, kept: Sequence[int]) -> Tokens:
    """Truncate to a number of tokens, but keep special ones at the end, as tokenizers do."""
    end = 0
    while end < min(limit - 1, len(tokens.ids)) and tokens.ids[-1 - end] in kept:
        end += 1
    if len(tokens.ids) <= limit:
        return tokens
    first, last = slice(limit - end), slice(len(tokens.ids) - end, None)
    return Tokens(
        tokens.ids[first] + tokens.ids[last], tokens.counted[first] + tokens.counted[last]
    )


def _unused(texts: Sequence[Tokens], tokenizer: Any, config: Any) -> int:
    """A token in no text: the tokenizer's padding, the model's end of text, or any other."""
    used = Counter(token for tokens in texts for token in tokens.ids)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    wanted = [tokenizer.pad_token_id, *ends, tokenizer.eos_token_id, tokenizer.unk_token_id]
    every = range(config.vocab_size - 1, -1, -1)
    size = config.vocab_size
    for token in [*wanted, *every]:
        if isinstance(token, int) and 0 <= token < size and token not in used:
            return token
    raise DataError(
        f"the texts hold all {size} tokens of the vocabulary, and none is left for padding; set "
        "pad_token_id in the configuration"
    )
