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
from types import ModuleType
from typing import TYPE_CHECKING, Any

from symport import errors

if TYPE_CHECKING:
    from symport.gmt import FGMT, GMT
    from symport.gradients import LossGradient
    from symport.landscape import barrier
    from symport.matching import match
    from symport.permute import permute
    from symport.spec import PermutationSpec
    from symport.symmetry import discover
    from symport.trajectory import Trajectory
    from symport.transfer import TransferResult, transfer

__all__ = [
    "FGMT",
    "GMT",
    "LossGradient",
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
_HOME = {
    "FGMT": "gmt",
    "GMT": "gmt",
    "LossGradient": "gradients",
    "PermutationSpec": "spec",
    "Trajectory": "trajectory",
    "TransferResult": "transfer",
    "barrier": "landscape",
    "discover": "symmetry",
    "match": "matching",
    "permute": "permute",
    "transfer": "transfer",
}


class _Package(ModuleType):
    """Where a module has the name of a function in it, the name stands for the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        setattr(sys.modules[__name__], name, found)
        return found
    if name in {module.name for module in iter_modules(__path__)}:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
