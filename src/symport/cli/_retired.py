"""Flags with a former name, or of keys that only `--set` sets: refused, with what to write."""

import inspect
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from symport.errors import SettingsError
from symport.settings import RENAMED


def refuse_retired(
    command: Callable[..., None], schema: type[BaseModel], arguments: Sequence[str]
) -> None:
    """Refuse a flag with a former name, and a flag of a key that only `--set` sets.

    Args:
        command: Its parameters are the flags that there are.
        schema: All keys that the command can set.
        arguments: What was typed after the command's name.

    Raises:
        SettingsError: There is such a flag; the message says what to write now.
    """
    flags = inspect.signature(command).parameters
    for argument in arguments:
        flag, key = argument.partition("=")[0], argument[2:].partition("=")[0].replace("-", "_")
        if not argument.startswith("--") or key in flags:
            continue
        name, _, value = RENAMED.get(key, key).partition("=")
        if name in schema.model_fields:
            raise SettingsError(f"{flag} is now given as {_now(name, value, flags)}")


def _now(key: str, value: str, flags: Mapping[str, object]) -> str:
    if key in flags:
        return f"--{key.replace('_', '-')}"
    return f"--set {key}={value or 'VALUE'}"
