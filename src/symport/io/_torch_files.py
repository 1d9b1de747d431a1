"""Read the state dict of a PyTorch file, unpickling nothing but tensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from symport.errors import FileError

SUFFIXES = (".pt", ".pth", ".bin")
CONVERT = (
    "load it where it was made and save its state dict there: "
    "symport.io.save_tensors('model.safetensors', model.state_dict())"
)

# In the message of PyTorch's reader: a class or a function that is not part of a tensor.
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)|(TorchScript archive)", re.IGNORECASE)


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a flat dict of tensors, alone or under the key `"state_dict"`, onto the CPU.

    Raises:
        FileError: The file is truncated, of another format, or contains anything but tensors.
    """
    content = _unpickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise FileError(
            f"{path}: the content is {_kind(content)}, not a dict of tensors; {CONVERT}"
        )
    entries = cast("Mapping[object, object]", content)
    for name, entry in entries.items():
        if not (isinstance(name, str) and isinstance(entry, Tensor)):
            raise FileError(
                f"{path}: entry {name!r} is {_kind(entry)}, not a tensor under a name; {CONVERT}"
            )
    return {str(name): cast("Tensor", entry).detach() for name, entry in entries.items()}


def _unpickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere inside the reader
        found = _FOREIGN.search(str(error))
        if found is None:
            raise FileError(
                f"{path}: cut short, or not a PyTorch file; copy or write it again"
            ) from error
        raise FileError(
            f"{path}: holds more than tensors ({found[1] or found[2]}), and unpickling that can "
            f"run any code; {CONVERT}"
        ) from error


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"
