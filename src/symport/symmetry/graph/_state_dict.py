"""Which parameters and buffers a state dict contains unchanged, and which it restores on loading.

Hooks may rename, split or change tensors when a state dict is made or loaded, and some tensors are
left out and computed anew. Here a state dict is loaded into a copy on the meta device, and each
tensor is followed to where it arrives. Nothing is computed, so this works for models of any size.
"""

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from symport.errors import DiscoveryError
from symport.symmetry.graph._storage import Place

Named: TypeAlias = Mapping[str, Tensor]
LEFT_OUT = "the state dict does not contain it unchanged (it is left out or modified)"
NOT_FILLED = "loading a state dict does not restore it (it is computed anew or modified)"
NOT_SAVED = "save_pretrained leaves it out of the file, and the model computes it anew on loading"
FOREIGN = "made for the state dict: it is no parameter or buffer of the model"


@dataclass(frozen=True)
class Saved:
    """How the tensors of a state dict correspond to those of its model.

    Attributes:
        tensors: The state dict.
        names: For each of its tensors that is a parameter or buffer, its name in the model; of
            several names of one tensor, the first represents all.
        first: That first name for every name of a parameter or buffer.
        fixed: Reasons for tensors that are fixed, by name in the model or in the state dict.
    """

    tensors: Named
    names: Mapping[str, str]
    first: Mapping[str, str]
    fixed: Mapping[str, str]

    def in_model(self, state: Named) -> dict[str, Tensor]:
        """The tensors of a state dict under every name that they have in the model."""
        given = {self.names[name]: tensor for name, tensor in state.items() if name in self.names}
        return {name: given[main] for name, main in self.first.items() if main in given}


def saved(model: nn.Module) -> Saved:
    """Follow every tensor of a model into its state dict and back.

    Raises:
        DiscoveryError: The model cannot load its own state dict.
    """
    own = named_tensors(model)
    state = cast("Mapping[str, Any]", model.state_dict())
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    places = {name: Place.of(tensor) for name, tensor in own.items()}
    owner: dict[Place, str] = {}
    first = {name: owner.setdefault(place, name) for name, place in places.items()}
    lie = {name: Place.of(tensor) for name, tensor in tensors.items()}
    names = {name: owner[place] for name, place in lie.items() if place in owner}
    origins = _origins(model)
    filled = {first[name] for name, origin in origins.items() if names.get(origin) == first[name]}
    fixed = {name: NOT_FILLED for name in owner.values() if name not in filled}
    fixed |= {name: LEFT_OUT for name in owner.values() if name not in names.values()}
    fixed |= {first[name]: NOT_SAVED for name in _never_saved(model) if name in first}
    fixed = {**{name: FOREIGN for name in tensors if name not in names}, **fixed}
    return Saved(tensors, names, first, fixed)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, under each of their names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _never_saved(model: nn.Module) -> Iterator[str]:
    """The tensors that transformers leaves out of its files."""
    for prefix, module in model.named_modules():
        for key in cast("Any", getattr(module, "_keys_to_ignore_on_save", None) or ()):
            yield f"{prefix}.{key}" if prefix else str(key)


def _origins(model: nn.Module) -> dict[str, str]:
    """For each parameter and buffer, the entry of the state dict that it is loaded from."""
    try:
        twin = _on_meta(model)
        state = cast("Mapping[str, Any]", twin.state_dict())
        given = {
            name: torch.empty_like(value) if isinstance(value, Tensor) and value.is_meta else value
            for name, value in state.items()
        }
        entries = {Place.of(t): name for name, t in given.items() if isinstance(t, Tensor)}
        watch = _Watch({Place.of(tensor).storage for tensor in named_tensors(model).values()})
        with warnings.catch_warnings(), watch:
            warnings.simplefilter("ignore")
            _load(twin, given)
    except Exception as error:  # hooks may do anything
        raise DiscoveryError(
            f"{type(model).__name__} cannot load its own state dict: {type(error).__name__}: "
            f"{error}. Permuted weights would not load either; correct the state dict hooks"
        ) from error
    arrived = {name: watch.origin(Place.of(t)) for name, t in named_tensors(twin).items()}
    return {name: entries[place] for name, place in arrived.items() if place in entries}


def _load(twin: nn.Module, state: Mapping[str, Any]) -> None:
    try:
        twin.load_state_dict(state, strict=False)
    except TypeError:  # an overridden method without `strict`
        twin.load_state_dict(state)


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy on the meta device; tensors that were shared are shared."""
    tensors = [*named_tensors(model).values()]
    for module in model.modules():
        tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    memo = {id(tensor): _without_memory(tensor) for tensor in tensors}
    return copy.deepcopy(model, cast("Any", memo))


def _without_memory(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


class _Watch(TorchDispatchMode):
    """Records what is written where while a state dict is loaded into a copy.

    A hook may refer to the original model; writes to its memory are skipped.
    """

    def __init__(self, untouched: set[int]) -> None:
        super().__init__()
        self.untouched = untouched
        self.written: dict[int, tuple[Place, Place | None]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        schema = getattr(func, "_schema", None)
        if schema is not None and schema.is_mutable:
            self._note(func, args, [a.alias_info for a in schema.arguments])
            if isinstance(args[0], Tensor) and Place.of(args[0]).storage in self.untouched:
                return args[0]
        return func(*args, **(kwargs or {}))

    def _note(self, func: Any, args: tuple[Any, ...], infos: list[Any]) -> None:
        for argument, info in zip(args, infos, strict=False):
            if info is not None and info.is_write and isinstance(argument, Tensor):
                place, source = Place.of(argument), None
                if func is torch.ops.aten.copy_.default and isinstance(args[1], Tensor):
                    source = Place.of(args[1])
                self.written[place.storage] = (place, source)

    def origin(self, place: Place) -> Place | None:
        """Where the entries of a tensor come from: the tensor last copied to it, or itself."""
        to, source = self.written.get(place.storage, (place, place))
        return source if to == place and source and source.shape == place.shape else None
