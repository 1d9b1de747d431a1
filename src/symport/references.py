"""Resolve what a user types to objects: `module:function`, files of examples, names of losses."""

import importlib
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from symport.data import Labelled
from symport.errors import DataError, FileError, SettingsError
from symport.io import load_tensors
from symport.model import Loss
from symport.params import Params, is_inexact
from symport.settings import LOSS_NAMES


def squared_errors(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean squared error of each example; integer labels are converted to one-hot vectors.

    Args:
        outputs: Shape `(batch, n)`.
        labels: Classes, shape `(batch,)` and an integer dtype, or targets of the outputs' shape.

    Example:
        >>> squared_errors(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([0]))  # 9 / 3
        tensor([3.])
    """
    if not labels.is_floating_point():
        labels = functional.one_hot(labels.long(), outputs.shape[-1]).to(outputs.dtype)
    return functional.mse_loss(outputs, labels, reduction="none").flatten(1).mean(1)


def cross_entropies(outputs: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each example, in nats.

    Args:
        outputs: Unnormalized log-probabilities, shape `(batch, classes)`.
        labels: Classes, shape `(batch,)`.

    Example:
        >>> cross_entropies(torch.zeros(1, 4), torch.tensor([0])).exp()
        tensor([4.])
    """
    return functional.cross_entropy(outputs, labels, reduction="none")


LIBRARIES = {"torchvision": "torchvision.models:get_model", "timm": "timm:create_model"}
LOSSES: dict[str, Loss] = dict(zip(LOSS_NAMES, (cross_entropies, squared_errors), strict=True))


def load_function(reference: str) -> Callable[..., Any]:
    """Import `module:function`; the current folder is searched first, as with `python -m`.

    Raises:
        SettingsError: The reference has no colon, the module or function does not exist, or the
            module fails when it is imported.

    Example:
        >>> load_function("math:hypot")(3, 4)
        5.0
    """
    module, colon, name = reference.partition(":")
    if not module or not colon or not name:
        raise SettingsError(f"{reference!r} is not of the form module:function, e.g. nets:mlp")
    if module.endswith(".py"):
        raise SettingsError(f"{reference}: write the module without .py, {module[:-3]}:{name}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{reference}: {error}; is it spelled right and installed?") from error
    except Exception as error:
        raise _failure(f"importing {module}", error) from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise SettingsError(f"{reference} is of type {type(found).__name__}, not a function")
    return cast("Callable[..., Any]", found)


def load_model(reference: str, **options: Any) -> nn.Module:
    """Create a network by calling a function, which must return a module.

    Args:
        reference: `module:function`; or, where these are installed, `torchvision:NAME` and
            `timm:NAME` for one of their networks, untrained.
        options: Arguments of the function, such as `num_classes=10`.

    Raises:
        SettingsError: It does not exist, fails, or returns something else.

    Example:
        >>> load_model("torch.nn:Linear", in_features=3, out_features=2)
        Linear(in_features=3, out_features=2, bias=True)
    """
    library, _, name = reference.partition(":")
    if library in LIBRARIES:
        model = call_function(LIBRARIES[library], name, **options)
    else:
        model = call_function(reference, **options)
    if not isinstance(model, nn.Module):
        raise SettingsError(f"{reference} returned a {type(model).__name__}, not an nn.Module")
    return model


def load_losses(name: str) -> Loss:
    """The loss of each example, by its name or as `module:function` taking (outputs, labels).

    Raises:
        SettingsError: There is no such loss.

    Example:
        >>> load_losses("mse") is squared_errors
        True
    """
    if name in LOSSES:
        return LOSSES[name]
    if ":" not in name:
        raise SettingsError(f"no loss {name!r}: {', '.join(LOSSES)}, or module:function")
    return cast("Loss", load_function(name))


def load_examples(reference: str, *, like: Params | None = None) -> Labelled:
    """Labelled examples from a file, or from a function.

    Args:
        reference: A `.safetensors` or `.npz` file with the arrays `inputs` and `labels`, or
            `module:function` returning such a pair.
        like: Weights. If all their floating-point tensors have one dtype, floating-point inputs
            are converted to it.

    Returns:
        Examples; integer labels are converted to int64.

    Raises:
        DataError: There are no examples, inputs and labels differ in number, or the content is not
            a pair of arrays.
        FileError: The file cannot be read.
        SettingsError: The function does not exist, or fails.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/data.npz", inputs=np.zeros((3, 2)), labels=np.array([0, 1, 1]))
        ...     load_examples(f"{folder}/data.npz").labels
        tensor([0, 1, 1])
    """
    path = Path(reference)
    if path.suffix == ".safetensors":
        found = load_tensors(path)
    elif path.suffix == ".npz":
        found = _load_npz(path)
    elif ":" in reference:
        found = _pair(reference)
    else:
        raise DataError(f"{reference!r}: give a .safetensors or .npz file, or module:function")
    if missing := [name for name in ("inputs", "labels") if name not in found]:
        raise DataError(f"{path}: has no array {missing[0]!r}, only {sorted(found)}")
    inputs, labels = found["inputs"], found["labels"]
    dtypes = {tensor.dtype for tensor in (like or {}).values() if tensor.is_floating_point()}
    if inputs.is_floating_point() and len(dtypes) == 1:
        inputs = inputs.to(dtypes.pop())
    if not is_inexact(labels):
        labels = labels.long()
    try:
        return Labelled(inputs, labels)
    except DataError as error:
        raise DataError(f"{reference}: {error}") from error


def load_example(reference: str) -> Tensor | dict[str, Tensor]:
    """Read an example input: keyword arguments by name, or the first two of labelled examples.

    Args:
        reference: A `.safetensors` or `.npz` file, or `module:function`, as for `load_examples`. A
            file without `inputs` and `labels` contains one tensor for each keyword argument.

    Raises:
        DataError: Inputs and labels differ in number, or the content is not a pair of arrays.
        FileError: The file cannot be read.
        SettingsError: The function does not exist, or fails.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/batch.npz", input_ids=np.array([[5, 7]]))
        ...     load_example(f"{folder}/batch.npz")
        {'input_ids': tensor([[5, 7]])}
    """
    path = Path(reference)
    if path.suffix in (".safetensors", ".npz"):
        found = load_tensors(path) if path.suffix == ".safetensors" else _load_npz(path)
        if "labels" not in found or "inputs" not in found:
            return found
    return load_examples(reference).inputs[:2]


def _load_npz(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):
            pass  # np.load would accept a single array, or a pickle
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except Exception as error:  # a damaged file can fail anywhere inside the readers
        raise FileError(
            f"{path}: not a whole .npz file of plain numbers ({error}); write it again with "
            "numpy.savez(path, inputs=…, labels=…)"
        ) from error


def _pair(reference: str) -> dict[str, Tensor]:
    found = call_function(reference)
    try:
        inputs, labels = found
        return {"inputs": torch.as_tensor(inputs), "labels": torch.as_tensor(labels)}
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{reference} must return two arrays, inputs and labels: {error}"
        ) from error


def call_function(reference: str, *arguments: Any, **options: Any) -> Any:
    """Call `module:function`, which may also be a class.

    Raises:
        SettingsError: It does not exist, or fails; the line of the user's own code is named.

    Example:
        >>> call_function("builtins:len", [1, 2])
        2
    """
    function = load_function(reference)
    try:
        return function(*arguments, **options)
    except Exception as error:  # anything at all: it is the user's code
        given = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items())]
        raise _failure(f"{reference}({', '.join(given)})", error) from error


def _failure(action: str, error: Exception) -> SettingsError:
    """An error that names the last line of the user's own code, not that of a library."""
    libraries = tuple({sys.prefix, sys.base_prefix, str(Path(__file__).parent), "<"})
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return SettingsError(f"{action} fails with {type(error).__name__}: {error}{place}")
