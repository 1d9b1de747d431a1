"""Convert a record to tokens, and mark those that belong to the answer.

Supported layouts are plain texts, prompts with completions, instructions with outputs (as in
Alpaca), and conversations (as in ShareGPT, or messages). The loss is over the answer: completions,
outputs, and in conversations the parts that the chat template marks with `{% generation %}`; in a
conversation without such marks, and in plain texts, it is over all tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from symport.errors import DataError, brief, short_repr
from symport.tasks._lines import Line

Message: TypeAlias = Mapping[str, Any]

LAYOUTS = (
    "'text', 'messages', 'conversations', 'prompt' with 'completion', or 'instruction' with "
    "'output'"
)
# The roles in ShareGPT's files, and those of chat templates.
ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "model": "assistant", "assistant": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
ALL_COUNT = (
    "The chat template does not mark answers with {% generation %}: the loss of a conversation "
    "counts all of its tokens."
)
# Without a chat template: the prompt of Alpaca.
TASK = "Below is an instruction that describes a task"
INSTRUCTION = (
    TASK + ". Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
WITH_INPUT = (
    TASK + ", paired with an input that provides further context. Write a response that "
    "appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a record.

    Attributes:
        ids: All tokens.
        counted: Whether each is part of the answer.
        note: A sentence for the user on how it was read, or "".
    """

    ids: list[int]
    counted: list[bool]
    note: str = ""


def tokens_of(line: Line, tokenizer: Any) -> Tokens:
    """The tokens of a record.

    Args:
        line: The record; a key with the value null counts as absent.
        tokenizer: A tokenizer of transformers.

    Raises:
        DataError: The layout is not supported, a value has another type, or the tokenizer or its
            chat template fails.
    """
    known = {key: value for key, value in line.values.items() if value is not None}
    completion = next((key for key in ("completion", "response") if key in known), None)
    output = next((key for key in ("output", "response") if key in known), None)
    if key := next((k for k in ("messages", "conversations") if k in known), None):
        system = [{"from": "system", "value": known["system"]}] if "system" in known else []
        return _conversation(line, tokenizer, [*system, *_listed(line, key)])
    if "prompt" in known and completion is not None:
        return _completed(line, tokenizer, known["prompt"], known[completion], completion)
    if "instruction" in known and output is not None:
        return _instructed(line, tokenizer, output)
    return _plain(_text(line, "text"), line, tokenizer)


def _plain(text: str, line: Line, tokenizer: Any) -> Tokens:
    ids = _ids(line, tokenizer, text)
    return Tokens(ids, [True] * len(ids))


def _completed(line: Line, tokenizer: Any, prompt: Any, completion: Any, key: str) -> Tokens:
    """A prompt and its completion, both texts or both messages."""
    if isinstance(prompt, list):
        end = _listed(line, key) if isinstance(completion, list) else [_said(_text(line, key))]
        return _answered(line, tokenizer, _listed(line, "prompt"), end)
    first, last = _text(line, "prompt", may_be_empty=True), _text(line, key)
    return _counted_after(
        line, _ids(line, tokenizer, first), _ids(line, tokenizer, first + last), key
    )


def _instructed(line: Line, tokenizer: Any, key: str) -> Tokens:
    instruction, answer = _text(line, "instruction"), _text(line, key)
    has_input = bool(line.values.get("input"))
    given = _text(line, "input") if has_input else ""
    if not tokenizer.chat_template:
        words = WITH_INPUT if has_input else INSTRUCTION
        prompt = words.format(instruction=instruction, input=given)
        return _counted_after(
            line, _ids(line, tokenizer, prompt), _ids(line, tokenizer, prompt + answer), key
        )
    messages: list[Message] = []
    if line.values.get("system"):
        messages.append({"role": "system", "content": _text(line, "system")})
    for turn in line.values.get("history") or []:
        if not (isinstance(turn, list) and len(cast("list[Any]", turn)) == 2):
            raise DataError(
                f"{line.where}: 'history' holds {short_repr(turn)}, expected pairs of texts"
            )
        asked, said = cast("list[Any]", turn)
        messages += [{"role": "user", "content": asked}, _said(said)]
    question = f"{instruction}\n\n{given}" if has_input else instruction
    return _answered(
        line, tokenizer, [*messages, {"role": "user", "content": question}], [_said(answer)]
    )


def _answered(
    line: Line, tokenizer: Any, before: Sequence[Message], after: Sequence[Message]
) -> Tokens:
    """Given messages, followed by those of the answer."""
    turns = [_turn(line, k, turn) for k, turn in enumerate([*before, *after], 1)]
    whole = _rendered(line, tokenizer, turns)
    first = _rendered(line, tokenizer, turns[: len(before)], add_generation_prompt=True)
    ids = _ids(line, tokenizer, whole, add_special_tokens=False)
    if not whole.startswith(first):
        return Tokens(ids, [True] * len(ids), ALL_COUNT)
    known = _ids(line, tokenizer, first, add_special_tokens=False)
    return _counted_after(line, known, ids, "the answer")


def _conversation(line: Line, tokenizer: Any, messages: Sequence[Message]) -> Tokens:
    turns = [_turn(line, k, turn) for k, turn in enumerate(messages, 1)]
    whole = _rendered(line, tokenizer, turns)
    if not MARKED.search(tokenizer.get_chat_template()):
        ids = _ids(line, tokenizer, whole, add_special_tokens=False)
        return Tokens(ids, [True] * len(ids), ALL_COUNT)
    try:
        found = tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception as error:  # templates are programs, and fail in every way
        raise _failed(line, "the chat template", error) from error
    counted = [bool(mark) for mark in found["assistant_masks"]]
    if not any(counted):
        raise DataError(f"{line.where}: the chat template marks no token of it as an answer")
    return Tokens(list(found["input_ids"]), counted)


def _counted_after(line: Line, prompt: list[int], whole: list[int], key: str) -> Tokens:
    """Mark the tokens after the prompt; one that spans both belongs to the answer."""
    pairs = zip(prompt, whole, strict=False)
    start = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(prompt), len(whole)))
    if start >= len(whole):
        raise DataError(f"{line.where}: {key} adds no token to the prompt")
    return Tokens(whole, [k >= start for k in range(len(whole))])


def _turn(line: Line, number: int, turn: Any) -> dict[str, Any]:
    """A message as chat templates take it."""
    if not isinstance(turn, Mapping):
        raise DataError(
            f"{line.where}: message {number} is {short_repr(turn)}, expected "
            '{"role": …, "content": …} or {"from": …, "value": …}'
        )
    message = dict(cast("Mapping[str, Any]", turn))
    if "from" in message and "role" not in message:
        who = message.pop("from")
        if who not in ROLES:
            raise DataError(
                f"{line.where}: message {number} is from {short_repr(who)}, none of "
                f"{', '.join(ROLES)}"
            )
        message["role"] = ROLES[who]
        message["content"] = message.pop("value", None)
    if not isinstance(message.get("role"), str):
        keys = ", ".join(map(str, list(message)[:9]))
        raise DataError(f"{line.where}: message {number} has no 'role', only {keys}")
    return message


def _rendered(line: Line, tokenizer: Any, turns: list[dict[str, Any]], **how: Any) -> str:
    if not tokenizer.chat_template:
        raise DataError(
            f"{line.where}: is a conversation, and the tokenizer in {tokenizer.name_or_path} has "
            "no chat template; put the chat_template.jinja of the fine-tune (or of a base) there, "
            "or give 'text', or 'prompt' with 'completion'"
        )
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **how))
    except Exception as error:  # templates are programs, and fail in every way
        raise _failed(line, "the chat template", error) from error


def _ids(line: Line, tokenizer: Any, text: str, **how: Any) -> list[int]:
    try:
        return list(tokenizer(text, verbose=False, **how)["input_ids"])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a foreign file decides what it does; Rust may panic
        raise _failed(line, "the tokenizer", error) from error


def _failed(line: Line, what: str, error: BaseException) -> DataError:
    return DataError(f"{line.where}: {what} fails on it ({brief(error)})")


def _listed(line: Line, key: str) -> list[Any]:
    found = line.values[key]
    if not isinstance(found, list) or not found:
        raise DataError(
            f"{line.where}: {key!r} is {short_repr(found)}, expected a list of messages"
        )
    return cast("list[Any]", found)


def _said(answer: Any) -> Message:
    return {"role": "assistant", "content": answer}


def _text(line: Line, key: str, *, may_be_empty: bool = False) -> str:
    """The text under a key, which can be written as UTF-8."""
    text = line.values.get(key)
    if key == "text" and text is None and "text" not in line.values:
        keys = ", ".join(map(short_repr, list(line.values)[:9])) or "no keys"
        raise DataError(f"{line.where}: has {keys}, expected {LAYOUTS}")
    if not isinstance(text, str) or not (text or may_be_empty):
        raise DataError(
            f"{line.where}: {key!r} is {short_repr(text)}, expected a text that is not empty"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{line.where}: {key!r} holds half a character ({error.object[error.start]!r} at "
            f"{error.start}); write the file again as UTF-8"
        ) from error
    return text
