"""The one registry of methods: every name, and how its method is made from what a caller has."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from symport.errors import SettingsError
from symport.matching import LinearTerm, Pair
from symport.methods._activation_matching import ActivationMatching
from symport.methods._base import Method
from symport.methods._given import GivenPermutation
from symport.methods._gradient_matching import FGMT, GMT
from symport.methods._identity import Identity
from symport.methods._oracle import Oracle
from symport.methods._weight_matching import WeightMatching
from symport.model import LossGradient
from symport.params import Params
from symport.references import call_function, load_function
from symport.settings import method_name
from symport.spec import Permutation

REGISTRY: Mapping[str, type[Method[Any]]] = {
    "fgmt": FGMT,
    "gmt": GMT,
    "weights": WeightMatching,
    "activations": ActivationMatching,
    "identity": Identity,
    "given": GivenPermutation,
    "oracle": Oracle,
}


class MakeGradient(Protocol):
    """Makes the gradient on the labelled examples at hand."""

    def __call__(self, *, keep: bool) -> LossGradient:
        """The gradient of the loss.

        Args:
            keep: Whether to keep the gradients of the source for later steps.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Available:
    """What a caller has to make a method from, under the names of the constructors' parameters.

    Attributes:
        gradient: Makes the gradient on the labelled examples, if there are any.
        model: The network.
        inputs: Makes batches of inputs as the model takes them.
        normalize: Whether to divide each pair of gradients by its norms.
        also: Pairs to add to every matching of gradients.
        keep: The dtype in which gradients of earlier steps are kept; None for their own.
        permutation: The permutation of `GivenPermutation`.
        target_final: The trained target of `Oracle`.

    Example:
        >>> import torch
        >>> swap = Permutation({"h": torch.tensor([1, 0])})
        >>> make_method("given", Available(permutation=swap)).name
        'given'
    """

    gradient: MakeGradient | None = None
    model: nn.Module | None = None
    inputs: Callable[[], Iterable[Any]] | None = None
    normalize: bool = False
    also: Sequence[Pair | LinearTerm] = ()
    keep: torch.dtype | None = None
    permutation: Permutation | None = None
    target_final: Params | None = None

    def value(self, parameter: str, kind: Callable[..., Any]) -> Any:
        """What the constructor `kind` gets for one of its parameters; None if nothing."""
        if parameter == "gradient" and self.gradient is not None:
            return self.gradient(keep=kind is not FGMT)  # FGMT uses each of them once
        if parameter == "inputs" and self.inputs is not None:
            return self.inputs()
        return getattr(self, parameter, None)


def takes(name: str, parameter: str) -> bool:
    """Whether the constructor of a method has a parameter, such as `gradient` or `inputs`.

    Args:
        name: One of `REGISTRY`, or `module:Class`.
        parameter: One of the attributes of `Available`.

    Raises:
        SettingsError: There is no such method.

    Example:
        >>> takes("fgmt", "gradient"), takes("weights", "gradient")
        (True, False)
    """
    return parameter in _parameters(name, _kind_of(name))


def make_method(name: str, available: Available) -> Method[Any]:
    """Make a method by its name.

    Each parameter of the constructor that has the name of an attribute of `available` gets its
    value; all others keep their defaults. This holds for symport's methods and for your own.

    Args:
        name: One of `REGISTRY`, or `module:Class`.
        available: What there is to make it from.

    Raises:
        SettingsError: There is no such method, its constructor needs something that is not
            available, it fails, or what it makes is not a `Method` with a name.

    Example:
        >>> make_method("symport.methods:WeightMatching", Available()).name
        'weights'
    """
    kind = _kind_of(name)
    options: dict[str, Any] = {}
    for parameter in _parameters(name, kind).values():
        value = available.value(parameter.name, kind)
        if value is not None:
            options[parameter.name] = value
        elif parameter.default is parameter.empty and parameter.kind not in _STARRED:
            raise SettingsError(
                f"the method {name} needs {parameter.name!r}, which is not available here; give "
                "the parameter a default, or choose another method"
            )
    made = REGISTRY[name](**options) if name in REGISTRY else call_function(name, **options)
    if not isinstance(made, Method):
        raise SettingsError(f"{name} makes {type(made).__name__!r}, not a symport.methods.Method")
    if not isinstance(getattr(made, "name", None), str):
        raise SettingsError(f"{name}: the method has no name; give its class one, name = 'mine'")
    return made


_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(name: str, kind: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(kind).parameters
    except ValueError as error:
        raise SettingsError(f"{name} makes no method of symport: it has no signature") from error


def _kind_of(name: str) -> Callable[..., Any]:
    return REGISTRY[name] if name in REGISTRY else load_function(method_name(name))
