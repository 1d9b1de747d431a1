"""Texts as rows of tokens: cut where they are too long, padded, and the padding known.

A decoder that classifies reads its answer at the last token that is not padding, and knows padding
by its number alone. So padding must be a token that no text holds, or answers are read elsewhere.
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
    """Texts side by side.

    Attributes:
        rows: Tokens and their mask, shape `(n, 2, length)`; the padding stands on the right.
        counted: Which tokens the loss counts, shape `(n, length)`, bool.
        names: File and line of each.
        notes: What is to be said of them.
        pad: A token for padding that the configuration lacks, or None.
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
    """Tokens of records.

    Args:
        lines: The records, as `records.tokens_of` takes them.
        tokenizer: Of transformers.
        config: Of the model, for the sizes of its vocabulary and positions.
        max_length: Tokens at which texts are cut; the model may take fewer.
        answers: Whether the loss counts tokens, which a text then needs at least 2 of.
        pads: Whether the model tells padding by its number.

    Raises:
        DataError: A record is not what it should be; the message says where.
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
    """The token for padding that a configuration has, if its vocabulary holds it."""
    for known in (config, config.get_text_config()):
        pad = getattr(known, "pad_token_id", None)
        if isinstance(pad, int) and 0 <= pad < known.get_text_config().vocab_size:
            return pad
    return None


def _limit(max_length: int, config: Any, tokenizer: Any) -> tuple[int, str]:
    """How many tokens a text may have, and whose limit that is."""
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
    """At most so many tokens; those to be kept at the end stay there, as tokenizers cut."""
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
    """A token that no text holds: the tokenizer's padding, the model's end of text, or another."""
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
