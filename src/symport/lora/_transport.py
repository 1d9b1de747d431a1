"""Carry a LoRA adapter of PEFT over to a new base at its own rank: B → P_out B, A → A P_in⁻¹."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from symport.errors import FileError, ParamsError, SpecError
from symport.io import ADAPTER, PathLike, load_tensors, write_checkpoint, write_text
from symport.lora._adapter import Adapter
from symport.lora._format import (
    Target,
    check_known,
    full_tensors,
    targets,
    values,
    with_tensors,
)
from symport.outofcore import outlined, transport
from symport.params import Params, listed
from symport.spec import (
    Fixed,
    Pattern,
    Permutation,
    PermutationSpec,
    axis_length,
    is_linked,
    permute,
    permute_tensor,
    show_pattern,
)

__all__ = ["Adapter", "Target", "displacement", "load_adapter", "save_adapter", "targets"]
__all__ += ["transport_adapter"]

CONFIG = "adapter_config.json"


def load_adapter(folder: PathLike, ties: Mapping[str, str] | None = None) -> Adapter:
    """Read an adapter that PEFT saved.

    Args:
        folder: The adapter's folder.
        ties: The ties of its base, as in `Adapter`; None if no tensors are tied.

    Raises:
        FileError: A file is missing, truncated or of another format, or the weights are pickled.

    Example:
        >>> adapter = Adapter({"peft_type": "LORA"}, {"base_model.model.b": torch.ones(2)})
        >>> save_adapter(folder / "adapter", adapter)
        >>> load_adapter(folder / "adapter").tensors
        {'base_model.model.b': tensor([1., 1.])}
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    if not (folder / ADAPTER).is_file() and (folder / "adapter_model.bin").is_file():
        raise FileError(
            f"{folder}: adapter_model.bin is pickled, which can run any code; load it with PEFT "
            "where you trust it, and save it with save_pretrained(..., safe_serialization=True)"
        )
    adapter = Adapter(config, load_tensors(folder / ADAPTER), ties or {})
    return with_tensors(adapter, adapter.tensors)


def read_adapter_config(folder: PathLike) -> dict[str, Any]:
    """The content of `adapter_config.json`.

    Raises:
        FileError: It is missing, not JSON, or not an object.

    Example:
        >>> write_text(folder / "adapter_config.json", '{"peft_type": "LORA"}')
        >>> read_adapter_config(folder)
        {'peft_type': 'LORA'}
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: not JSON ({error}); copy it again") from error
    if not isinstance(config, dict):
        raise FileError(f"{path}: not the configuration of an adapter")
    return cast("dict[str, Any]", config)


def save_adapter(folder: PathLike, adapter: Adapter) -> None:
    """Write an adapter in the format of PEFT.

    Args:
        folder: Created if absent; an existing folder must be empty.
        adapter: The adapter; its configuration is written last.

    Raises:
        FileError: The folder is not empty, or a file cannot be written.

    Example:
        >>> adapter = Adapter({"peft_type": "LORA"}, {"base_model.model.b": torch.ones(2)})
        >>> save_adapter(folder / "adapter", adapter)
        >>> sorted(path.name for path in (folder / "adapter").iterdir())
        ['adapter_config.json', 'adapter_model.safetensors']
    """
    names = dict.fromkeys(adapter.tensors, ADAPTER)
    write_checkpoint(folder, adapter.tensors, names, adapter.tensors.items())
    write_text(Path(folder) / CONFIG, json.dumps(dict(adapter.config), indent=2) + "\n")


def displacement(adapter: Adapter, base: Params) -> dict[str, Tensor]:
    """The dense displacement of an adapter: what it adds to each tensor of its base.

    Args:
        adapter: Never modified.
        base: The base of the adapter; tied tensors under each of their names, if the adapter
            changes them under one name only.

    Returns:
        Displacements by name in the base, in at least float32. Of a tensor that the base lacks,
        such as a new head, it is the tensor itself.

    Raises:
        ParamsError: The adapter is not plain LoRA or DoRA, or is for another base.

    Example:
        >>> config = {"peft_type": "LORA", "lora_alpha": 1}
        >>> a, b = (f"base_model.model.up.lora_{factor}.weight" for factor in "AB")
        >>> adapter = Adapter(config, {a: torch.tensor([[1.0, 2.0]]), b: torch.ones(1, 1)})
        >>> displacement(adapter, {"up.weight": torch.zeros(1, 2)})
        {'up.weight': tensor([[1., 2.]])}
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in outlined(base).items()}
    found = targets(adapter, shapes)
    check_known(list(found), shapes, "the base")
    held = {
        name: key for name, key in values(adapter).items() if not _is_alias(adapter, name, base)
    }
    result = {name: _wide(adapter.tensors[key]) for name, key in held.items()}
    result |= {name: tensor - base[name] for name, tensor in result.items() if name in shapes}
    for name, target in found.items():
        before = _wide(base[name])
        result[name] = _changed(adapter, target, before + result.get(name, 0)) - before
        if target.bias is not None:
            bias = f"{name.removesuffix('weight')}bias"
            check_known([bias], shapes, "the base")
            added = target.scaling * _wide(adapter.tensors[target.bias])
            result[bias] = result.get(bias, 0) + added
    return result


def transport_adapter(
    adapter: Adapter,
    spec: PermutationSpec,
    permutation: Permutation,
    *,
    scale: float = 1.0,
    old_base: Params | None = None,
    new_base: Params | None = None,
) -> Adapter:
    """Carry an adapter over to another base, at the same rank.

    The products are carried over exactly: W_new + scale · π(scaling · B A). Full tensors become
    θ_new + scale · π(θ_tuned − θ_old) if both bases are given. Otherwise they are permuted, which
    is correct for new heads, and if the new base is a permutation of the old one. Likewise DoRA's
    magnitudes: if both bases are given, the change relative to the norm of each output is carried
    over.

    Args:
        adapter: Never modified.
        spec: The symmetry of the bases.
        permutation: Source unit for each position, from the old base to the new one.
        scale: The factor on the displacement, which multiplies B.
        old_base: The base of the adapter; tied tensors as for `displacement`.
        new_base: The base to carry it over to; likewise.

    Returns:
        The same configuration; tensors of the same names, shapes and dtypes.

    Raises:
        ParamsError: The adapter is not plain LoRA or DoRA, is for another base, or the scale
            needs bases that are not given.
        SpecError: A weight's axes can only be permuted together, which does not preserve products.

    Example:
        >>> spec = PermutationSpec.parse({"up.weight": "h ."}, sizes={"h": 2})
        >>> swap = Permutation({"h": torch.tensor([1, 0])})
        >>> a, b = (f"base_model.model.up.lora_{factor}.weight" for factor in "AB")
        >>> tensors = {a: torch.ones(1, 3), b: torch.tensor([[1.0], [2.0]])}
        >>> adapter = Adapter({"peft_type": "LORA", "lora_alpha": 1}, tensors)
        >>> transport_adapter(adapter, spec, swap).tensors[b].flatten()
        tensor([2., 1.])
    """
    found = targets(adapter, _shapes(spec, new_base))
    known = spec.patterns if new_base is None else outlined(new_base)
    whole = {key: _known(adapter, name, known) for key, name in full_tensors(adapter).items()}
    check_known([*found, *whole.values()], spec.patterns, "the spec of the base")
    permutation.check(spec)
    result = _permuted(adapter, found, whole, spec, permutation)
    if scale != 1:
        scaled = [key for target in found.values() for key in (target.b, target.bias) if key]
        result |= {key: result[key] * scale for key in scaled}
    if old_base is not None and new_base is not None:
        move = _Move(old_base, new_base, spec, permutation, scale)
        result |= {key: move.whole(name, adapter.tensors[key]) for key, name in whole.items()}
        for name, target in found.items():
            if target.magnitude is not None:
                result[target.magnitude] = move.magnitude(name, target, result[target.magnitude])
    elif scale != 1 and (odd := [*whole.values(), *(n for n, t in found.items() if t.magnitude)]):
        raise ParamsError(
            f"the adapter holds {listed(odd)} not as products alone; a scale of {scale} needs "
            "old_base and new_base"
        )
    return with_tensors(adapter, result)


@dataclass(frozen=True, eq=False)
class _Move:
    """The parts of an adapter that are carried over by means of both bases."""

    old: Params
    new: Params
    spec: PermutationSpec
    permutation: Permutation
    scale: float

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """θ_new + scale · π(θ_tuned − θ_old) in the adapter's dtype; π(θ_tuned) for a new head."""
        bases = (self.old, self.new)
        old, new = ({name: b[name].to(tensor.dtype)} if name in b else {} for b in bases)
        moved = transport(old, {name: tensor}, new, self.spec, self.permutation, scale=self.scale)
        return dict(moved)[name]

    def magnitude(self, name: str, target: Target, moved: Tensor) -> Tensor:
        """DoRA's norms, their change relative to those of the base; `moved` is permuted already."""
        axis = (self.spec.patterns[name][target.outputs],)
        old = permute_tensor(_norms(self.old[name], target), axis, self.permutation)
        new = _norms(self.new[name], target)
        change = _wide(moved).flatten() / old - 1
        found = torch.where(
            (new == old) & (self.scale == 1), moved.flatten(), new * (1 + self.scale * change)
        )
        return found.to(moved.dtype).reshape(moved.shape)


def _known(adapter: Adapter, name: str, known: Collection[str]) -> str:
    """The name among the known ones of a tensor that may be tied."""
    return name if name in known else adapter.ties.get(name, name)


def _is_alias(adapter: Adapter, name: str, base: Collection[str]) -> bool:
    """Whether the base has this tensor under another of its names only."""
    return name not in base and _known(adapter, name, base) in base


def _permuted(
    adapter: Adapter,
    found: Mapping[str, Target],
    whole: Mapping[str, str],
    spec: PermutationSpec,
    permutation: Permutation,
) -> dict[str, Tensor]:
    """All tensors of the adapter, their units permuted."""
    patterns = {key: spec.patterns[name] for key, name in whole.items()}
    for name, target in found.items():
        patterns |= _factor_patterns(adapter, name, target, spec.patterns[name])
    own = PermutationSpec(patterns, spec.groups)
    try:
        return permute(adapter.tensors, own, permutation, partial=True)
    except SpecError as error:
        raise ParamsError(f"{error}: an adapter for another base") from error


def _factor_patterns(
    adapter: Adapter, name: str, target: Target, pattern: Pattern
) -> dict[str, Pattern]:
    """The patterns of factors, bias and magnitude: each has one side of the weight's."""
    if is_linked(pattern):
        raise SpecError(
            f"{name}: its axes '{show_pattern(pattern)}' can only be permuted together, which does "
            "not preserve a product B A; merge the adapter into its base first"
        )
    outer, inner = pattern[target.outputs], pattern[1 - target.outputs]
    ndim = adapter.tensors[target.b].ndim
    stay: Pattern = (Fixed(),) * (ndim - 2)
    found: dict[str, Pattern] = {
        target.a: (Fixed(), inner, *pattern[2:]),
        target.b: (outer, Fixed(), *stay),
    }
    if target.bias is not None:
        found[target.bias] = (outer,)
    if target.magnitude is not None:
        flat = adapter.tensors[target.magnitude].ndim == 1
        found[target.magnitude] = (outer,) if flat else (Fixed(), outer, *stay)
    return found


def _shapes(spec: PermutationSpec, base: Params | None) -> dict[str, Sequence[int | None]]:
    """Shapes of the base's tensors as far as they are known."""
    found: dict[str, Sequence[int | None]] = {
        name: [axis_length(axis, spec.sizes) for axis in pattern]
        for name, pattern in spec.patterns.items()
    }
    known = outlined(base) if base is not None else {}
    return {**found, **{name: tuple(tensor.shape) for name, tensor in known.items()}}


def _product(adapter: Adapter, target: Target) -> Tensor:
    """Scaling · B A, laid out as the base stores the weight."""
    a, b = (_wide(adapter.tensors[key]) for key in (target.a, target.b))
    product = target.scaling * (b.flatten(1) @ a.flatten(1)).reshape(len(b), *a.shape[1:])
    return product.T if target.transposed else product


def _changed(adapter: Adapter, target: Target, weight: Tensor) -> Tensor:
    """The weight under the adapter; DoRA gives each output the norm that it holds."""
    result = weight + _product(adapter, target)
    if target.magnitude is None:
        return result
    shape = [1] * result.ndim
    shape[target.outputs] = -1
    factor = _wide(adapter.tensors[target.magnitude]).flatten() / _norms(result, target)
    return result * factor.reshape(shape)


def _norms(weight: Tensor, target: Target) -> Tensor:
    """The Euclidean norm of the weights of each output, shape `(outputs,)`."""
    return torch.linalg.vector_norm(_wide(weight).movedim(target.outputs, 0).flatten(1), dim=1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
