"""The tensors of a file under the model's names, mapped as transformers does when loading."""

import json
import re
import sys
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import ParamsError
from symport.huggingface._conversion import Bundle, bundles_of
from symport.io import INDEX, Checkpoint, TensorReader, finished_files, open_checkpoint
from symport.model import own_tensors
from symport.outofcore import row_shape, runs
from symport.params import Params, listed

COUNTS = (torch.int64, torch.bool)  # positions and masks, which a model makes anew
# What older versions kept beside the weights, and every model makes by itself now.
LEFTOVERS = re.compile(
    r"(^|\.)rotary_emb\.(original_)?inv_freq$|(^|\.)(position|token_type)_ids$"
    r"|(^|\.)(attn|attention|self_attn|crossattention)\.(masked_)?bias$"
)


class Names:
    """The names of a model's tensors, and which tensors a file may lack or have in addition.

    Args:
        model: A model of transformers, on the meta device.
        ties: For each name of a tensor that the configuration gives several names, the first one,
            whether or not the model keeps them tied.

    Attributes:
        model: As given.
        ties: As given.
        outline: Shapes and dtypes of all tensors, tied ones under each of their names.
        first: For each name, the first name of the same tensor.
    """

    def __init__(self, model: nn.Module, ties: Mapping[str, str] | None = None) -> None:
        self.model: Any = model
        self.ties = ties or {}
        own = own_tensors(model)
        self.outline = {name: tensor.detach() for name, tensor in own.items()}
        places: dict[int, str] = {}
        self.first = {name: places.setdefault(id(tensor), name) for name, tensor in own.items()}
        self._known: dict[str, set[str]] = {}

    @property
    def kind(self) -> str:
        """The name of the model's class."""
        return type(self.model).__name__

    def is_head(self, name: str) -> bool:
        """Whether a tensor stands above the body that all tasks share, if there is one."""
        body = str(self.model.base_model_prefix)
        return bool(body) and hasattr(self.model, body) and not name.startswith(f"{body}.")

    def in_body(self, name: str) -> str:
        """A name that the model lacks, with the body's prefix as the model's own names have it."""
        prefix, first = str(self.model.base_model_prefix), name.partition(".")[0]
        if not prefix or hasattr(self.model, first):
            return name
        if first == prefix:
            return name.removeprefix(f"{prefix}.")
        return f"{prefix}.{name}" if hasattr(getattr(self.model, prefix, None), first) else name

    def aliases(self, first: str) -> list[str]:
        """The names that a tensor may have in a file, its own ones first.

        Among those, what transformers ties the others to comes before the others.
        """
        targets: Mapping[str, str] = getattr(self.model, "all_tied_weights_keys", None) or {}
        names = [name for name, other in self.first.items() if other == first]
        others = [n for n, other in self.ties.items() if other == self.ties.get(first)]
        own = sorted(names, key=lambda name: name in targets)
        return own + [name for name in others if name not in own]

    def may_lack(self, name: str) -> bool:
        """Whether a model makes this by itself if no file has it."""
        patterns: Iterable[str] = self.model._keys_to_ignore_on_load_missing or ()
        is_count = self.outline[name].dtype in COUNTS
        return is_count or any(re.search(pattern, name) for pattern in patterns)

    def is_leftover(self, name: str, like: Tensor) -> bool:
        """Whether a tensor that the model lacks says nothing that the model does not know."""
        patterns: Iterable[str] = self.model._keys_to_ignore_on_load_unexpected or ()
        known = any(re.search(pattern, name) for pattern in patterns)
        return known or like.dtype in COUNTS or LEFTOVERS.search(name) is not None

    def is_other_part(self, name: str) -> bool:
        """Whether a tensor belongs to a part that this class lacks, such as another head.

        It is none if it stands where the class has a module: then the two do not fit.
        """
        body = getattr(self.model, str(self.model.base_model_prefix) or " ", self.model)
        place: nn.Module = self.model
        for step in name.split("."):
            inside = dict(place.named_children())
            if step not in inside:
                return place in (self.model, body) and not step.isdigit() and "." in name
            place = inside[step]
        return False

    def of_sibling(self, present: Collection[str], missing: Collection[str]) -> bool:
        """Whether a class of the same body has just what is present, and lacks what is missing."""
        return any(
            set(present) >= (names & self.outline.keys())
            and not names & set(missing)
            # a part that the sibling lacks is lacking altogether, not cut short
            and not any(n in present for n in self.outline.keys() - names if not self.is_head(n))
            for names in map(self._of_sibling, self._siblings)
        )

    def known_to_sibling(self, name: str) -> bool:
        """Whether a class of the same body has such a tensor."""
        return any(name in self._of_sibling(kind) for kind in self._siblings)

    def of_class(self, kind: str) -> Collection[str]:
        """What another class of the same body has, by the names that this one has."""
        return self.outline if kind == self.kind else self._of_sibling(kind)

    @cached_property
    def _siblings(self) -> dict[str, type]:
        """The other classes for the same configuration, by name."""
        module = sys.modules[type(self.model).__module__]
        own = type(self.model)
        return {
            name: kind
            for name, kind in vars(module).items()
            if isinstance(kind, type)
            and issubclass(kind, nn.Module)
            and kind is not own
            and getattr(kind, "config_class", None) is own.config_class
            and kind.__module__ == own.__module__
            and not name.endswith("PreTrainedModel")
        }

    def _of_sibling(self, kind: str) -> set[str]:
        """What another class has, by the names that this one has; nothing if there is none."""
        if kind not in self._known:
            self._known[kind] = set()
            with suppress(Exception), torch.device("meta"):  # not every class takes the config
                names = self._siblings[kind](self.model.config).state_dict()
                prefix = str(self.model.base_model_prefix)
                self._known[kind] = {_with_prefix(n, prefix, self.outline) for n in names}
        return self._known[kind]


@dataclass(frozen=True, eq=False)
class NamedCheckpoint:
    """The weights of a folder under the names of a model.

    Attributes:
        file: The tensors under the names in the folder.
        tensors: The tensors under the model's names, tied ones under their first name only; each
            is read on access, and fused from several if the model does so.
        absent: Names that the model has and the folder lacks: new heads, in a base.
        left_out: Names that the folder has and the model lacks: heads of other tasks.
        copies: Further names of tied tensors in the folder, each with its name in `tensors`.

    Example:
        >>> from symport.huggingface import find_family, find_folders, open_models
        >>> folders = find_folders(str(gpt2), str(gpt2), str(gpt2))
        >>> with open_models(folders, find_family(folders)) as files:
        ...     sorted(files.new.without(["transformer.ln_f.bias"]).tensors)[-1]
        'transformer.wte.weight'
    """

    file: Checkpoint
    tensors: Checkpoint
    absent: frozenset[str]
    left_out: tuple[str, ...]
    copies: Mapping[str, str]
    _copies: Mapping[str, TensorReader]
    _bundles: Mapping[str, tuple[Bundle, str]]

    def without(self, names: Collection[str]) -> "NamedCheckpoint":
        """The same as if some tensors were not there."""
        readers = {n: reader for n, reader in self.tensors.readers.items() if n not in names}
        return replace(self, tensors=self.file.view(readers))

    def differing(self) -> set[str]:
        """The copies that differ from what they are tied to: transformers does not tie them."""
        pairs = {
            name: (reader, self.tensors.readers[self.copies[name]])
            for name, reader in self._copies.items()
        }
        return {name for name, (copy, reader) in pairs.items() if not _same(copy, reader)}

    def layout(self, outline: Params) -> dict[str, Tensor]:
        """Shapes and dtypes under the names of this folder, given those under the model's."""
        return dict(self.repacked((name, tensor.to("meta")) for name, tensor in outline.items()))

    def repacked(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Tensors under the model's names, taken apart and renamed as this folder has them."""
        waiting: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors:
            if name not in self._bundles:
                yield name, tensor
                continue
            bundle, own = self._bundles[name]
            found = waiting.setdefault(id(bundle), {})
            found[own] = tensor
            if len(found) == len(bundle.names):
                yield from bundle.back(waiting.pop(id(bundle))).items()
        for left in waiting.values():
            yield from left.items()  # as the model names them, which loads just as well

    def finished(self, folder: Path, outline: Params) -> frozenset[str]:
        """The model's tensors that are written already, wholly, where writing was interrupted."""
        laid_out = self.layout(outline)
        files = self.files(laid_out)
        done = finished_files(folder, laid_out, files)
        homes = {n: self._bundles[n][0].sources if n in self._bundles else [n] for n in outline}
        return frozenset(
            name
            for name, keys in homes.items()
            if all(files.get(key, files.get(name)) in done for key in keys)
        )

    def files(self, outline: Params) -> dict[str, str]:
        """The name of the file for each tensor of a layout."""
        known = self.file.files
        return {name: known.get(name, next(iter(known.values()))) for name in outline}


@contextmanager
def open_named(folder: Path, names: Names, *, base: bool = False) -> Generator[NamedCheckpoint]:
    """Open a folder of weights by the names of a model.

    Args:
        folder: As `open_checkpoint` takes it.
        names: Of the model.
        base: Whether heads may be missing, or be for other classes: the fine-tune's are new then.

    Raises:
        FileError: There is no file of weights, or one is missing, truncated or of another format.
        ParamsError: A tensor is missing, has another shape, or is unknown to the model.
    """
    with open_checkpoint(folder) as file:
        yield _named(file, names, base=base)


def _named(file: Checkpoint, names: Names, *, base: bool) -> NamedCheckpoint:
    bundles, extra = bundles_of(file, names.model, names.outline)
    given = {name: (bundle, name) for bundle in bundles for name in bundle.names}
    left_out = _left_out(file, names, extra, base=base)
    found: dict[str, tuple[Bundle, str]] = {}
    for first in dict.fromkeys(names.first.values()):
        if name := next((name for name in names.aliases(first) if name in given), None):
            found[first] = given[name]
    order = {id(bundle): place for place, bundle in enumerate(bundles)}
    found = dict(sorted(found.items(), key=lambda item: order[id(item[1][0])]))
    other = _other_shapes(file, names, found, base=base)
    left = {name: place for name, place in found.items() if name not in other}
    lacking = {name for name in names.first.values() if name not in left}
    absent = {name for name in lacking - other if not names.may_lack(name)}
    if lost := _lost(file, names, left, absent) if base else absent:
        odd = [name for name in dict.fromkeys(names.first.values()) if name in lost]
        raise ParamsError(
            f"{_where(file)}: lacks {listed(odd)}, which {names.kind} has; copy the weights again, "
            "or save them anew where they are whole"
        )
    view = file.view({name: bundle.reader(own) for name, (bundle, own) in left.items()})
    read = {own for _, own in left.values()}
    copies = {name: names.first[name] for name in given if name not in read}
    copies = {name: first for name, first in copies.items() if first in left}
    # what is read under another tensor's name is written under its own
    written = {n: pair for n, pair in left.items() if names.first[pair[1]] == n}
    return NamedCheckpoint(
        file,
        view,
        frozenset(absent | other),
        left_out,
        copies,
        {name: given[name][0].reader(name) for name in copies},
        written,
    )


def _lost(
    file: Checkpoint, names: Names, found: Collection[str], absent: Collection[str]
) -> set[str]:
    """What a base lacks though its own class has it, or all classes of the same body do."""
    heads = {name for name in absent if names.is_head(name)}
    lost = {name for name in heads if name in names.of_class(_class_of(file.path))}
    body = set(absent) - heads
    return lost | body if body and not names.of_sibling(set(found), body) else lost


def _class_of(folder: Path) -> str:
    """The class that a folder says it is of; nothing where it does not."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["architectures"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _left_out(
    file: Checkpoint, names: Names, extra: Mapping[str, str], *, base: bool
) -> tuple[str, ...]:
    """The tensors of other tasks; raise ParamsError if one should have a place in the model."""
    outline = file.outline()
    foreign = [key for key, name in extra.items() if not names.is_leftover(name, outline[key])]
    for key in foreign:
        name = names.in_body(extra[key])
        if not (
            names.is_other_part(name)
            or (base and names.is_head(name))
            or names.known_to_sibling(name)
        ):
            raise ParamsError(
                f"{_where(file)}: has {key}, and {names.kind} as its config.json makes it has "
                "nothing of that name; weights and configuration are not of one model"
            )
    return tuple(foreign)


def _other_shapes(
    file: Checkpoint, names: Names, found: Mapping[str, tuple[Bundle, str]], *, base: bool
) -> set[str]:
    """The heads of a base that are for other classes; raise ParamsError for anything else."""
    sizes = {name: bundle.reader(own).like.shape for name, (bundle, own) in found.items()}
    odd = [name for name, size in sizes.items() if size != names.outline[name].shape]
    if wrong := [name for name in odd if not (base and names.is_head(name))]:
        raise ParamsError(
            f"shapes differ in {listed(wrong)}: {wrong[0]} is "
            f"{tuple(names.outline[wrong[0]].shape)} as the fine-tune's config.json has it, "
            f"{tuple(sizes[wrong[0]])} in {_where(file)}; a port needs one architecture and one "
            "vocabulary"
        )
    return set(odd)


def _where(file: Checkpoint) -> Path:
    """The file to look into."""
    if not file.path.is_dir():
        return file.path
    files = set(file.files.values())
    return file.path / (files.pop() if len(files) == 1 else INDEX)


def _same(a: TensorReader, b: TensorReader) -> bool:
    """Whether two tensors are equal."""
    if a.like.shape != b.like.shape:
        return False
    dtype = torch.promote_types(a.like.dtype, b.like.dtype)
    shape = row_shape(a.like)
    if not a.like.ndim:
        return torch.equal(a.rows().to(dtype), b.rows().to(dtype))
    return all(
        torch.equal(a.rows(run.start, run.stop).to(dtype), b.rows(run.start, run.stop).to(dtype))
        for run in runs(shape)
    )


def _with_prefix(name: str, prefix: str, known: Collection[str]) -> str:
    """A tensor's name with or without the body's prefix, whichever is known."""
    bare = name.removeprefix(f"{prefix}.")
    return next((n for n in (name, bare, f"{prefix}.{name}") if n in known), name)
