"""Turn what a person types into objects: `module:function`, files of weights, examples, names."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from symport.batches import Labelled
from symport.errors import DataError, FileError, SettingsError
from symport.files import load_tensors
from symport.gradients import Loss

LOSSES: dict[str, Loss] = {
    "cross-entropy": functional.cross_entropy,
    "mse": functional.mse_loss,
}


def load_function(reference: str) -> Callable[..., Any]:
    """Import `module:function`; the current folder comes first, as it does for `python -m`.

    Raises:
        SettingsError: The reference has no colon, or the module or function does not exist.
    """
    module, colon, name = reference.partition(":")
    if not colon or not name:
        raise SettingsError(f"{reference!r} is not of the form module:function, e.g. nets:mlp")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{reference}: {error}; is it spelled right and installed?") from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise SettingsError(f"{reference} is a {type(found).__name__}, not a function")
    return cast("Callable[..., Any]", found)


def load_model(reference: str) -> nn.Module:
    """Call `module:function` without arguments; it must return a module.

    Raises:
        SettingsError: It does not exist, fails, or returns something else.
    """
    function = load_function(reference)
    try:
        model = function()
    except TypeError as error:
        raise SettingsError(f"{reference} must be callable without arguments: {error}") from error
    if not isinstance(model, nn.Module):
        raise SettingsError(f"{reference} returned a {type(model).__name__}, not an nn.Module")
    return model


def load_loss(name: str) -> Loss:
    """A loss by its name, or `module:function` taking (outputs, labels).

    Raises:
        SettingsError: There is no such loss.
    """
    if name in LOSSES:
        return LOSSES[name]
    if ":" not in name:
        raise SettingsError(f"no loss {name!r}: {', '.join(LOSSES)}, or module:function")
    return cast("Loss", load_function(name))


def load_examples(reference: str) -> Labelled:
    """Labelled examples from a file, or from a function.

    Args:
        reference: A `.safetensors` or `.npz` file with the arrays `inputs` and `labels`, or
            `module:function` returning such a pair.

    Raises:
        DataError: The pair is empty or does not fit together.
        FileError: The file cannot be read.
        SettingsError: The function does not exist.
    """
    path = Path(reference)
    if path.suffix == ".safetensors":
        found = load_tensors(path)
    elif path.suffix == ".npz":
        found = _load_npz(path)
    elif ":" in reference:
        inputs, labels = load_function(reference)()
        return Labelled(torch.as_tensor(inputs), torch.as_tensor(labels))
    else:
        raise DataError(f"{reference}: give a .safetensors or .npz file, or module:function")
    if missing := [name for name in ("inputs", "labels") if name not in found]:
        raise DataError(f"{path}: has no array {missing[0]!r}, only {sorted(found)}")
    return Labelled(found["inputs"], found["labels"])


def _load_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not a readable .npz file of plain arrays ({error})") from error
