"""Errors for a model that cannot be traced: which step fails, and the remedy."""

import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from symport.errors import DiscoveryError
from symport.params import listed
from symport.symmetry.graph._model_copy import evaluation

SPEC = "or write the spec by hand with PermutationSpec.parse"
BRANCH = (
    "Its operations depend on the values of tensors: replace branches and loops on data (if, "
    f"while, .item(), nonzero) by torch.where or masks, {SPEC}"
)
UNKNOWN_CLASS = r"not a known type|[Uu]nsupported input type|pytree (?:input|output)|pytree for"
REMEDIES = {
    UNKNOWN_CLASS: (
        "Return tensors, tuples or dicts, or pass a `select` that picks the tensors from what it "
        "returns; or register the class with torch.utils._pytree.register_dataclass or derive it "
        "from transformers' ModelOutput. Inputs must be tensors, numbers or such containers too"
    ),
    r"pack_padded|pad_packed|PackedSequence|nn/utils/rnn\.py|nn/modules/rnn\.py": (
        "Packed sequences cut tensors by the values of lengths: give the recurrent layer padded "
        f"sequences for this call (the symmetry does not depend on packing), {SPEC}"
    ),
    r"\.numpy\(|in numpy|numpy\(\) on|can't convert .*numpy|__array__": (
        f"Computations outside torch cannot be traced: replace .numpy() by torch operations, {SPEC}"
    ),
    r"does not require grad|autograd\.grad|functorch|torch\.func|_functorch|requires_grad_?\(": (
        "Derivatives inside forward (autograd.grad, torch.func) cannot be traced: discover the "
        "symmetry of the module whose derivative is taken, which has the same weights, and pass "
        f"its spec, {SPEC}"
    ),
    r"ScriptModule|torch\.jit|ScriptFunction": (
        "It is compiled by torch.jit: pass the original module, before scripting"
    ),
}


def check_arguments(model: object, example_inputs: object) -> None:
    """Refuse anything that is not a model, models wrapped for several devices, and missing inputs.

    Raises:
        DiscoveryError: For any of these; the message names what to pass instead.
    """
    if not isinstance(model, nn.Module):
        what = "a state dict" if isinstance(model, Mapping) else f"a {type(model).__name__}"
        raise DiscoveryError(
            f"a model (nn.Module) is needed, not {what}: the symmetry follows from what the model "
            "computes. Build it, load the weights (model.load_state_dict) and pass the model"
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise DiscoveryError(
            f"{type(model).__name__} wraps a model for several devices: pass its `.module`"
        )
    if example_inputs is None:
        raise DiscoveryError(
            f"{type(model).__name__}: example inputs are needed; pass one example, a tensor, a "
            "tuple of positional or a mapping of keyword arguments: discover(model, example_inputs)"
        )


def outputs_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a model returns in evaluation mode; model and random state are left unchanged."""
    with evaluation(model) as copied, torch.random.fork_rng([]):
        try:
            with torch.no_grad():
                return copied(*args, **kwargs)
        except RuntimeError:  # some take derivatives themselves
            with torch.enable_grad():
                return copied(*args, **kwargs)


def check_call(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a model returns; None if the call fails only because weights on meta have no values.

    Raises:
        DiscoveryError: The call itself fails, before anything is traced.
    """
    try:
        return outputs_of(model, args, kwargs)
    except Exception as cause:  # a model may raise anything
        if _needs_values(cause, model):
            return None
        raise DiscoveryError(
            f"{type(model).__name__} cannot be called with these inputs: {_short(cause)}. Look at "
            "their names, shapes, dtypes (whole numbers where it takes floating-point ones?) and "
            "device, and correct them; the call itself fails, before anything is traced"
        ) from cause


def untraceable(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    select: Callable[[Any], Any] | None,
    error: Exception,
) -> str:
    """One line: what fails (the call, `select` or export), and the next step."""
    name = type(model).__name__
    state = cast("Mapping[str, Any]", model.state_dict())
    if packed := [
        key
        for key, value in state.items()
        if not isinstance(value, Tensor) and not key.endswith("_extra_state")
    ]:
        return (
            f"{name} cannot be traced: {listed(packed)} in its state dict are not tensors: pass "
            "the network before quantization"
        )
    try:
        output = check_call(model, args, kwargs)
    except DiscoveryError as cause:
        return str(cause)
    if select is not None and output is not None and (failure := _selection(select, output)):
        return f"{name}: {failure}"
    return f"{name} cannot be traced: {_short(error)}. {_remedy(error)}"


def _selection(select: Callable[[Any], Any], output: Any) -> str:
    """How `select` fails on what the model returns; empty if it does not."""
    try:
        select(output)
    except Exception as cause:  # a user's function may raise anything
        keys = cast("Mapping[str, Any]", output) if isinstance(output, Mapping) else {}
        found = f" with {', '.join(map(str, keys))}" if keys else ""
        return (
            f"`select` fails on what the model returns, a {type(output).__name__}{found}: "
            f"{_short(cause)}. Pick outputs that the model returns"
        )
    return ""


def _needs_values(cause: Exception, model: nn.Module) -> bool:
    """Whether a call fails only because weights on the meta device have no values."""
    on_meta = any(tensor.is_meta for tensor in model.parameters())
    return on_meta and re.search("meta", str(cause)) is not None


def _remedy(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = "\n".join(f"{frame.filename} {frame.name} {frame.line}" for frame in frames)
    message = f"{type(error).__name__} {error}"
    found = [remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, message)]
    found += [
        remedy
        for pattern, remedy in REMEDIES.items()
        if pattern != UNKNOWN_CLASS and re.search(pattern, _of_models(places))
    ]
    return found[0] if found else BRANCH


def _of_models(places: str) -> str:
    """The lines of a traceback outside torch's tracing."""
    own = re.compile(r"/torch/(?!nn/)|/_?functorch/")
    return "\n".join(line for line in places.splitlines() if not own.search(line))


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
