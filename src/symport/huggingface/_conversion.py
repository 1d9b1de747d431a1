"""Tensors of a file and the tensors of a model that transformers makes of them, and back."""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from symport.errors import ParamsError
from symport.io import Checkpoint, TensorReader
from symport.params import listed


class Bundle(Protocol):
    """Some tensors of a file, and the tensors of the model that they become.

    Attributes:
        names: Of the model's tensors.
        sources: Of the file's.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Of the model's tensors."""
        ...

    @property
    def sources(self) -> list[str]:
        """Of the file's tensors."""
        ...

    def reader(self, name: str) -> TensorReader:
        """Where one of the model's tensors is read from."""
        ...

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the file, given those of the model."""
        ...


@dataclass(frozen=True, eq=False)
class Renamed:
    """One tensor that only has another name, or the same."""

    key: str
    name: str
    _reader: TensorReader

    @property
    def names(self) -> tuple[str, ...]:
        """The one name."""
        return (self.name,)

    @property
    def sources(self) -> list[str]:
        """The one name in the file."""
        return [self.key]

    def reader(self, name: str) -> TensorReader:
        """Where it lies."""
        del name
        return self._reader

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """It, under its name in the file."""
        return {self.key: tensors[self.name]}


@dataclass(frozen=True, eq=False)
class Converted:
    """Tensors that transformers stacks, joins, splits or turns on loading.

    Attributes:
        first: The model's name that the parts lead to, the first of them if there are several.
        keys: The file's names for each pattern of the converter, in their order.
        file: Where they lie.
    """

    first: str
    keys: Mapping[str, list[str]]
    file: Checkpoint
    _converter: Any
    _model: Any
    _last: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def names(self) -> tuple[str, ...]:
        """The model's names."""
        return tuple(self.likes)

    @property
    def sources(self) -> list[str]:
        """The file's names."""
        return [key for keys in self.keys.values() for key in keys]

    @cached_property
    def likes(self) -> dict[str, Tensor]:
        """Shapes and dtypes of the model's tensors.

        Raises:
            ParamsError: The tensors of the file do not go together.
        """
        readers = self.file.readers
        parts = {p: [readers[key].like for key in ks] for p, ks in self.keys.items()}
        try:
            return self.convert(parts)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ParamsError(
                f"{self.file.path}: {listed(self.sources)} do not make {self.first} "
                f"({str(error).splitlines()[0]}); copy the weights again"
            ) from error

    @cached_property
    def is_stack(self) -> bool:
        """Whether rows are whole tensors of the file, as with the experts of a mixture."""
        first, *others = ((type(op).__name__, op) for op in self._converter.operations)
        stacks = first[0] == "MergeModulelist" and first[1].dim == 0
        return stacks and all(kind == "Concatenate" and op.dim > 0 for kind, op in others)

    def reader(self, name: str) -> TensorReader:
        """Where one of the model's tensors is made."""
        return InBundle(self, name)

    def rows(self, name: str, start: int, stop: int | None) -> Tensor:
        """Some rows of one of the model's tensors; what else is made is kept until the next."""
        readers = self.file.readers
        if self.is_stack:
            parts = {p: [readers[k].rows() for k in ks[start:stop]] for p, ks in self.keys.items()}
            if any(parts.values()):
                return self.convert(parts)[name]
            return torch.empty(0, *self.likes[name].shape[1:], dtype=self.likes[name].dtype)
        if name not in self._last:
            self._last.clear()
            parts = {p: [readers[key].rows() for key in keys] for p, keys in self.keys.items()}
            self._last.update(self.convert(parts))
        whole = self._last[name]
        if start == 0 and (stop is None or not whole.ndim or stop >= len(whole)):
            return self._last.pop(name)  # nobody asks for it again soon
        return whole[start:stop].clone()

    def convert(self, parts: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """What transformers makes of the tensors for each pattern."""
        converter = deepcopy(self._converter)
        for pattern, tensors in parts.items():
            converter.collected_tensors[pattern] = list(tensors)
        made = converter.convert(self.first, model=self._model, config=self._model.config)
        return {name: t[0] if isinstance(t, list) else t for name, t in made.items()}

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What transformers would save; the model's own names where it cannot."""
        try:
            found = self._reverse(tensors)
            sizes = {key: tensor.shape for key, tensor in found.items()}
            fits = all(sizes[k] == self.file.readers[k].like.shape for k in sizes)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, IndexError):
            return dict(tensors)
        return found if fits else dict(tensors)

    def _reverse(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        converter = deepcopy(self._converter)  # reversing changes the lists of what is reversed
        reverse = converter.reverse_transform()
        current: dict[str, Any] = {}
        for name in self.likes:
            _, pattern = reverse.rename_source_key(name)
            current.setdefault(pattern, []).append(tensors[name])
        for operation in reverse.operations:
            current = operation.convert(
                current,
                source_patterns=reverse.source_patterns,
                target_patterns=reverse.target_patterns,
                full_layer_name=self.first,
                model=self._model,
                config=self._model.config,
                missing_keys=None,
            )
        patterns = dict(zip(self._converter.source_patterns, reverse.target_patterns, strict=True))
        return {
            key: _one(current[patterns[pattern].replace("*", str(number))]).contiguous()
            for pattern, keys in self.keys.items()
            for number, key in enumerate(keys)
        }


@dataclass(frozen=True, eq=False)
class InBundle:
    """A tensor that is made of others."""

    bundle: Converted
    name: str

    @property
    def like(self) -> Tensor:
        """Shape and dtype, on the `meta` device."""
        return self.bundle.likes[self.name]

    @property
    def file(self) -> str:
        """The name of the file with the first of those that it is made of."""
        return self.bundle.file.readers[self.bundle.sources[0]].file

    def rows(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Positions `start` to `stop` of its first axis."""
        return self.bundle.rows(self.name, start, stop)

    def prefetch(self) -> None:
        """Let the system read its parts from the disk already."""
        for key in self.bundle.sources:
            self.bundle.file.prefetch(key)


def bundles_of(
    file: Checkpoint, model: Any, outline: Mapping[str, Tensor]
) -> tuple[list[Bundle], dict[str, str]]:
    """What each tensor of a file becomes in a model, as `from_pretrained` maps them.

    Args:
        file: Opened.
        model: On the meta device.
        outline: All of its tensors.

    Returns:
        The bundles in the order of the file; and the tensors that the model has no place for, each
        with the name that it would have in the model.

    Raises:
        ParamsError: Two tensors of the file are one in the model.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key

    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {p: converter for converter in converters for p in converter.source_patterns}
    keys: dict[str, dict[str, list[str]]] = {}
    plain: dict[str, str] = {}
    extra: dict[str, str] = {}
    for key in sorted(file, key=dot_natural_key):
        name, pattern = _renamed(key, renamings, converters, model, outline)
        if name not in outline:
            extra[key] = name
        elif pattern is not None:
            keys.setdefault(name, {}).setdefault(pattern, []).append(key)
        elif name in plain:
            raise ParamsError(
                f"{file.path}: {plain[name]} and {key} are both {name}; remove one of them"
            )
        else:
            plain[name] = key
    bundles: list[Bundle] = [Renamed(key, name, file.readers[key]) for name, key in plain.items()]
    for name, sources in keys.items():
        converter = by_pattern[next(iter(sources))]
        _check_stack(file, sources, outline[name])
        bundles.append(Converted(name, sources, file, converter, model))
    order = {key: number for number, key in enumerate(file)}
    return sorted(bundles, key=lambda bundle: min(order[key] for key in bundle.sources)), extra


def _check_stack(file: Checkpoint, keys: Mapping[str, list[str]], like: Tensor) -> None:
    """Raise ParamsError if one of many tensors that are stacked is missing, by its name."""
    for pattern, found in keys.items():
        before, star, after = pattern.replace("\\", "").partition("*")
        number = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
        places = [number.search(key) for key in found]
        if not star or not all(places):
            continue
        seen = {int(place[1]): place for place in places if place}
        if lost := [k for k in range(max(len(like), *seen)) if k not in seen]:
            start, stop = seen[min(seen)].span(1)
            raise ParamsError(
                f"{file.path}: lacks {found[0][:start]}{lost[0]}{found[0][stop:]}; copy the "
                "weights again, or save them anew where they are whole"
            )


def _renamed(
    key: str, renamings: list[Any], converters: list[Any], model: Any, outline: Mapping[str, Tensor]
) -> tuple[str, str | None]:
    """The model's name for a tensor of a file, and the pattern of the converter that takes it."""
    from transformers.core_model_loading import rename_source_key

    prefix = model.base_model_prefix
    name, pattern = rename_source_key(key, renamings, converters, prefix, dict(outline))
    if name not in outline and key in outline:
        name, pattern = rename_source_key(key, [], [], prefix, dict(outline))
    return name, pattern


def _one(tensor: Any) -> Tensor:
    return tensor[0] if isinstance(tensor, list) else tensor
