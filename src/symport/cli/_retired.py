"""Flags that a command had under another name, or has as a setting: refused with what to write."""

import inspect
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from symport.errors import SettingsError
from symport.settings import RENAMED


def refuse_retired(
    command: Callable[..., None], schema: type[BaseModel], arguments: Sequence[str]
) -> None:
    """Raise SettingsError if an argument is a flag of old, or one that only `--set` can give.

    Args:
        command: Its parameters are the flags that there are.
        schema: All keys that the command can set.
        arguments: What was typed behind the command's name.
    """
    flags = inspect.signature(command).parameters
    for argument in arguments:
        flag, key = argument.partition("=")[0], argument[2:].partition("=")[0].replace("-", "_")
        if not argument.startswith("--") or key in flags:
            continue
        name, _, value = RENAMED.get(key, key).partition("=")
        if name in schema.model_fields:
            raise SettingsError(f"{flag} is given as {_now(name, value, flags)} now")


def _now(key: str, value: str, flags: Mapping[str, object]) -> str:
    if key in flags:
        return f"--{key.replace('_', '-')}"
    return f"--set {key}={value or 'VALUE'}"
