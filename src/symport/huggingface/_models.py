"""Models of transformers: found, compared and loaded."""

import copy
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import FileError, ParamsError, SettingsError, brief, first_line
from symport.huggingface._adapter import class_under, odd_base, untied_by
from symport.huggingface._architecture import settle
from symport.huggingface._compatibility import Configs, agree
from symport.huggingface._folders import Folders
from symport.huggingface._names import NamedCheckpoint, Names, open_named
from symport.huggingface._tokenizers import quiet_transformers
from symport.io import read_json
from symport.model import own_tensors
from symport.params import Params, listed

LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers",
          "decoder_layers", "num_decoder_layers", "num_encoder_layers")  # fmt: skip
MOST_LAYERS = 2000  # the deepest have a few hundred


@dataclass(frozen=True, eq=False)
class Family:
    """The architecture that the fine-tune has.

    Attributes:
        kind: The class of transformers.
        config: Its configuration, as the new base and the result have it.
        untied: Names of tensors that the configuration ties to others, but that differ from them
            in one of the three models.
        source: The configuration of the old base and its fine-tune; None if it is the same.
        notes: A sentence on each difference of the configurations and its effect.
        remarks: Further sentences for the user; reading examples appends to them.

    Example:
        >>> from symport.huggingface import find_folders
        >>> family = find_family(find_folders(str(gpt2), str(gpt2), str(gpt2)))
        >>> family.name, next(family.outline().parameters()).device.type
        ('GPT2LMHeadModel', 'meta')
    """

    kind: Any
    config: Any
    untied: frozenset[str] = frozenset()
    source: Any = None
    notes: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list[str])

    def of_source(self) -> "Family":
        """The architecture of the old base and its fine-tune.

        The padding token is that of the examples, which are padded once for both.
        """
        if self.source is None:
            return self
        source = copy.deepcopy(self.source)
        sides = ((source, self.config), (source.get_text_config(), self.config.get_text_config()))
        for side, own in sides:
            if (pad := getattr(own, "pad_token_id", None)) is not None:
                side.pad_token_id = pad
        return replace(self, config=source, source=None)

    @property
    def name(self) -> str:
        """The name of the class."""
        return str(self.kind.__name__)

    @cached_property
    def ties(self) -> dict[str, str]:
        """For each name of a tensor that the configuration ties, the first of its names."""
        with torch.device("meta"):
            first = Names(self.kind(self.config)).first
        counts = Counter(first.values())
        return {name: other for name, other in first.items() if counts[other] > 1}

    @cached_property
    def names(self) -> Names:
        """The names of the model's tensors."""
        return Names(self.outline(), self.ties)

    def outline(self) -> nn.Module:
        """The model on the meta device: shapes without contents."""
        _refuse_many_layers(self.config)
        try:
            with torch.device("meta"):
                return untie_(self.kind(self.config).eval(), self.untied)
        except Exception as error:  # a configuration can fail anywhere in its network
            raise SettingsError(
                f"{self.config.name_or_path}/config.json: no {self.name} can be built from it "
                f"({brief(error)})"
            ) from error


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A base or a fine-tune in memory.

    Attributes:
        model: The network.
        params: Its tensors, each under one name.
        absent: Names of heads that the folder lacks, or has for other classes; they are zero.
    """

    model: Any
    params: Params
    absent: frozenset[str]


def check_device(name: str) -> None:
    """Raise SettingsError if torch has no such device on this machine.

    Raises:
        SettingsError: There is none.

    Example:
        >>> check_device("cpu")
    """
    try:
        torch.empty(1, device=name)
    except (AssertionError, RuntimeError, NotImplementedError) as error:  # torch's own
        reason = first_line(error)
        raise SettingsError(f"device {name!r}: there is none here ({reason}); use cpu") from error


def find_family(folders: Folders, accept: Collection[str] = ()) -> Family:
    """The architecture of the fine-tune, after checking that both bases share it.

    Args:
        folders: The three models.
        accept: Keys of the configurations that may differ.

    Raises:
        SettingsError: transformers is not installed or does not know the architecture, a model is
            quantized, or configurations differ in what the network computes and not by `accept`.
        FileError: A configuration cannot be read.

    Example:
        >>> from symport.huggingface import find_folders
        >>> find_family(find_folders(str(gpt2), str(gpt2), str(gpt2))).name
        'GPT2LMHeadModel'
    """
    old, new = ((p, read_config(p)) for p in (folders.old_base, folders.new_base))
    tuned = None if folders.is_adapter else (folders.tuned, read_config(folders.tuned))
    for place in (old, new, tuned):
        if place is not None:
            _refuse_quantized(*place)
    kind = class_under(folders.tuned, old[1], new[1]) if tuned is None else None
    kind = kind or _class_named(*(tuned or new))
    found = agree(Configs(old, tuned, new), lambda c: Family(kind, c).outline(), accept)
    source = None if found.source is found.result else found.source
    notes = (
        *found.notes,
        *(odd_base(folders.tuned, folders.old_base) if folders.is_adapter else ()),
    )
    return Family(kind, found.result, source=source, notes=notes)


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """The checkpoints of a port, by the names of the model's tensors.

    Attributes:
        old: The old base.
        tuned: The fine-tune; None if it is an adapter.
        new: The new base.
        new_heads: Names of heads that the fine-tune has and a base lacks or has for other classes.
    """

    old: NamedCheckpoint
    tuned: NamedCheckpoint | None
    new: NamedCheckpoint
    new_heads: frozenset[str]


@contextmanager
def open_models(folders: Folders, family: Family) -> Generator[ModelFiles]:
    """Open the checkpoints of bases and fine-tune, those of the bases without new heads.

    Raises:
        FileError: A file of weights is missing, truncated, or a pickle.
        ParamsError: A tensor is missing or has another shape; the message names it and its file.

    Example:
        >>> from symport.huggingface import find_folders
        >>> folders = find_folders(str(gpt2), str(gpt2), str(gpt2))
        >>> with open_models(folders, find_family(folders)) as files:
        ...     tuple(files.new.tensors["transformer.wpe.weight"].shape), files.new_heads
        ((8, 4), frozenset())
    """
    with ExitStack() as stack:

        def opened(folder: Path, *, base: bool) -> NamedCheckpoint:
            return stack.enter_context(open_named(folder, family.names, base=base))

        old, new = (opened(f, base=True) for f in (folders.old_base, folders.new_base))
        tuned = None if folders.is_adapter else opened(folders.tuned, base=False)
        heads = old.absent | new.absent
        yield ModelFiles(old.without(heads), tuned, new.without(heads), heads)


def check_weights(folders: Folders, family: Family) -> Family:
    """Read the headers of all files, and compare names and shapes with those of the model.

    Returns:
        The family, with `untied` according to these files.

    Raises:
        FileError: A file of weights is missing, truncated, or a pickle.
        ParamsError: A tensor is missing or has another shape; the message names it and its file.

    Example:
        >>> from symport.huggingface import find_folders
        >>> folders = find_folders(str(gpt2), str(gpt2), str(gpt2))
        >>> check_weights(folders, find_family(folders)).untied
        frozenset()
    """
    if folders.is_adapter:
        family = replace(family, untied=untied_by(folders.tuned, family.names, family.config))
    with open_models(folders, family) as files:
        sides = [side for side in (files.old, files.tuned, files.new) if side is not None]
        untied = frozenset[str]().union(*(side.differing() for side in sides))
    return replace(family, untied=family.untied | untied) if untied else family


def unused_tensor_notes(folders: Folders, family: Family) -> list[str]:
    """A sentence on the tensors of the files that the model does not have, if there are any.

    Example:
        >>> from symport.huggingface import find_folders
        >>> folders = find_folders(str(gpt2), str(gpt2), str(gpt2))
        >>> unused_tensor_notes(folders, find_family(folders))
        []
    """
    with open_models(folders, family) as files:
        sides = [side for side in (files.old, files.tuned, files.new) if side is not None]
    found = [f"{listed(side.left_out)} ({side.file.path.name})" for side in sides if side.left_out]
    return [f"Left out, as {family.name} has no such parts: {'; '.join(found)}."] if found else []


def load(folder: Path, family: Family, *, dtype: str, device: str = "cpu") -> LoadedModel:
    """Load a base or a fine-tune with the configuration of the family.

    Args:
        folder: A model folder.
        family: The architecture.
        dtype: Name of a dtype of torch.
        device: Name of a device of torch.

    Raises:
        FileError: transformers cannot load the folder.
        ParamsError: Shapes differ from those of the family.

    Example:
        >>> from symport.huggingface import find_folders
        >>> family = find_family(find_folders(str(gpt2), str(gpt2), str(gpt2)))
        >>> load(gpt2, family, dtype="float32").params["transformer.wpe.weight"].dtype
        torch.float32
    """
    with quiet_transformers():
        try:
            model, info = family.kind.from_pretrained(
                folder,
                config=family.config,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,
            )
            untie_(model, family.untied)
        except RuntimeError as error:
            raise ParamsError(f"{folder}: does not fit {family.name} ({brief(error)})") from error
        except Exception as error:  # transformers reads more of a folder than was checked
            raise FileError(f"{folder}: cannot be loaded ({brief(error)})") from error
    own = {name: tensor.detach() for name, tensor in own_tensors(model.eval()).items()}
    absent = frozenset(info["missing_keys"]) | {str(entry[0]) for entry in info["mismatched_keys"]}
    with torch.no_grad():
        for name in absent - {name for name in own if family.names.may_lack(name)}:
            own[name].zero_()
    model.to(device)
    return LoadedModel(model, params_of(model), absent)


def untie_(model: Any, names: Collection[str]) -> Any:
    """Untie tensors, each of which gets its own memory; in place."""
    for name in names:
        parent, _, own = name.rpartition(".")
        place = model.get_submodule(parent)
        copied = getattr(place, own).detach().clone()
        setattr(place, own, nn.Parameter(copied, requires_grad=copied.is_floating_point()))
        model.all_tied_weights_keys.pop(name, None)
    return model


def params_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors, those that are tied under their first name only."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in own_tensors(model).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            result[name] = tensor.detach()
    return result


def read_config(folder: Path) -> Any:
    """The configuration of a model folder, with the options that symport relies on.

    Raises:
        FileError: There is none that transformers knows.
        SettingsError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise SettingsError("porting needs transformers: pip install 'symport[hf]'") from error
    path = folder / "config.json"
    if not isinstance(read_json(path), dict):
        raise FileError(f"{path}: expected an object with keys")
    try:
        found = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        return settle(found)
    except Exception as error:  # configurations raise errors of any type
        raise FileError(
            f"{path}: no configuration that transformers knows ({brief(error)})"
        ) from error


def _refuse_many_layers(config: Any) -> None:
    """Raise SettingsError for a number of layers that would take hours to build."""
    for known in (config, config.get_text_config()):
        for key in LAYERS:
            count = getattr(known, key, None)
            if isinstance(count, int) and count > MOST_LAYERS:
                raise SettingsError(
                    f"{config.name_or_path}/config.json: {key} is {count}; at most {MOST_LAYERS} "
                    "are supported"
                )


def _refuse_quantized(folder: Path, config: Any) -> None:
    if getattr(config, "quantization_config", None) is not None:
        raise SettingsError(
            f"{folder}: its weights are quantized, which cannot be permuted exactly; pass the "
            "model that was quantized, or save model.dequantize() and pass that"
        )


def _class_named(folder: Path, config: Any) -> Any:
    import transformers

    named: Any = getattr(config, "architectures", None) or [None]
    first: Any = named[0] if isinstance(named, list) else None
    kind = getattr(transformers, first, None) if isinstance(first, str) else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise SettingsError(f"{folder}: 'architectures' is {named}, none that transformers has")
    return kind
