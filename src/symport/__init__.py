"""Carry a training run over to another network, without training it.

spec = symport.discover(model, example_inputs)
source = symport.Trajectory.open("runs/source")
method = symport.FGMT(symport.LossGradient(model, loss, batches))
result = symport.transfer(source, target_init, spec, method)
model.load_state_dict(result.params)
"""

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from symport import errors

if TYPE_CHECKING:
    from symport.matching import MatchResult, Pair, match
    from symport.methods import FGMT, GMT, Identity, TransferResult, transfer
    from symport.model import LossGradient, barrier
    from symport.spec import Permutation, PermutationSpec, permute
    from symport.symmetry import discover
    from symport.trajectory import Trajectory

__all__ = [
    "FGMT",
    "GMT",
    "Identity",
    "LossGradient",
    "MatchResult",
    "Pair",
    "Permutation",
    "PermutationSpec",
    "Trajectory",
    "TransferResult",
    "barrier",
    "discover",
    "errors",
    "match",
    "permute",
    "transfer",
]

# What is used is what loads: the command line's help needs no torch, which takes a second.
_ROOMS = {
    "matching": ("MatchResult", "Pair", "match"),
    "methods": ("FGMT", "GMT", "Identity", "TransferResult", "transfer"),
    "model": ("LossGradient", "barrier"),
    "spec": ("Permutation", "PermutationSpec", "permute"),
    "symmetry": ("discover",),
    "trajectory": ("Trajectory",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("symport")
    if name in _HOME:
        found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        setattr(sys.modules[__name__], name, found)
        return found
    if name in {module.name for module in iter_modules(__path__)}:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
