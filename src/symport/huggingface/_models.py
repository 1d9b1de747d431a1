"""Models of transformers: found, compared and loaded."""

import copy
import re
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from symport.errors import FileError, ParamsError, SettingsError, brief
from symport.huggingface._adapter import class_under, odd_base, untied_by
from symport.huggingface._architecture import settle
from symport.huggingface._compatibility import Configs, agree
from symport.huggingface._names import NamedCheckpoint, Names, open_named
from symport.huggingface._tokenizers import quiet_transformers
from symport.io import read_json
from symport.model import own_tensors
from symport.params import Params, listed

LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers",
          "decoder_layers", "num_decoder_layers", "num_encoder_layers")  # fmt: skip
MOST_LAYERS = 2000  # the deepest have a few hundred
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Folders:
    """Where the three models lie.

    Attributes:
        old_base: What was fine-tuned.
        tuned: The fine-tune.
        new_base: Where it is to go.
    """

    old_base: Path
    tuned: Path
    new_base: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the fine-tune is an adapter, not a whole model."""
        return (self.tuned / "adapter_config.json").is_file()


@dataclass(frozen=True, eq=False)
class Family:
    """The architecture that the fine-tune has.

    Attributes:
        kind: The class of transformers.
        config: Its configuration, as the new base and the result have it.
        untied: Names of tensors that the configuration ties to others, and that are their own in
            one of the three models.
        source: The configuration as the old base and its fine-tune have it; None if that is the
            same.
        notes: How the configurations differ, and what becomes of it, a sentence each.
        remarks: What else there is to say; reading examples adds to it.
    """

    kind: Any
    config: Any
    untied: frozenset[str] = frozenset()
    source: Any = None
    notes: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list[str])

    def of_source(self) -> "Family":
        """The same architecture as the old base and its fine-tune are computed.

        The token that pads is that of the examples, which have been padded once for all.
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
        """For each name of a tensor that the configuration gives several names, the first."""
        with torch.device("meta"):
            first = Names(self.kind(self.config)).first
        counts = Counter(first.values())
        return {name: other for name, other in first.items() if counts[other] > 1}

    @cached_property
    def names(self) -> Names:
        """What the model calls its tensors."""
        return Names(self.outline(), self.ties)

    def outline(self) -> nn.Module:
        """The model on the meta device: shapes without contents."""
        _refuse_many_layers(self.config)
        try:
            with torch.device("meta"):
                return untie_(self.kind(self.config).eval(), self.untied)
        except Exception as error:  # a foreign configuration can fail anywhere in its network
            raise SettingsError(
                f"{self.config.name_or_path}/config.json: no {self.name} can be made of it "
                f"({brief(error)})"
            ) from error


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A base or a fine-tune in memory.

    Attributes:
        model: Gives the computation.
        params: Its tensors, each under one name.
        absent: Names of heads that the folder lacks, or has for other classes; they are zero.
    """

    model: Any
    params: Params
    absent: frozenset[str]


def check_device(name: str) -> None:
    """Raise SettingsError if torch has no such device here."""
    try:
        torch.empty(1, device=name)
    except (AssertionError, RuntimeError, NotImplementedError) as error:  # what torch itself says
        said = str(error).strip().splitlines()[0]
        raise SettingsError(f"device {name!r}: there is none here ({said}); use cpu") from error


def find_folder(reference: str) -> Path:
    """A local folder, or the download of a hub id.

    Raises:
        FileError: It is neither, or the hub cannot be reached.
        SettingsError: huggingface_hub is not installed.
    """
    path = Path(reference)
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(reference):
        raise FileError(f"{reference}: not a model folder, nor a hub id such as owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SettingsError(
            f"{reference}: no such folder; to download it: pip install 'symport[hf]'"
        ) from error
    try:
        return Path(snapshot_download(reference, allow_patterns=WANTED))
    except Exception as error:  # its own errors, and those of the network under it
        raise FileError(
            f"{reference}: no such folder here, and the hub does not give it "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); download it elsewhere and "
            "pass its folder"
        ) from error


def find_folders(old_base: str, tuned: str, new_base: str) -> Folders:
    """All three; raises FileError or SettingsError as `find_folder`."""
    folders = Folders(find_folder(old_base), find_folder(tuned), find_folder(new_base))
    for path in (folders.old_base, folders.new_base):
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise FileError(f"{path}: is an adapter, not a base; merge it into its base first")
    return folders


def find_family(folders: Folders, accept: Collection[str] = ()) -> Family:
    """The architecture of the fine-tune, once bases and fine-tune are known to share it.

    Args:
        folders: The three models.
        accept: Keys of the configurations that may differ.

    Raises:
        SettingsError: transformers is not installed or does not know the architecture, a model is
            quantized, or configurations differ in what the network computes and not by `accept`.
        FileError: A configuration cannot be read.
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
    """The files of a port, by the names of the model.

    Attributes:
        old: The old base.
        tuned: The fine-tune; None if it is an adapter.
        new: The new base.
        new_heads: What a base lacks, or has for other classes, and the fine-tune has.
    """

    old: NamedCheckpoint
    tuned: NamedCheckpoint | None
    new: NamedCheckpoint
    new_heads: frozenset[str]


@contextmanager
def open_models(folders: Folders, family: Family) -> Generator[ModelFiles]:
    """Open bases and fine-tune by the names of the model; bases without the heads that are new.

    Raises:
        FileError: A file of weights is missing, cut short, or a pickle.
        ParamsError: A tensor is missing, or has another shape; the message says which and where.
    """
    with ExitStack() as stack:

        def opened(folder: Path, *, base: bool) -> NamedCheckpoint:
            return stack.enter_context(open_named(folder, family.names, base=base))

        old, new = (opened(f, base=True) for f in (folders.old_base, folders.new_base))
        tuned = None if folders.is_adapter else opened(folders.tuned, base=False)
        heads = old.absent | new.absent
        yield ModelFiles(old.without(heads), tuned, new.without(heads), heads)


def check_weights(folders: Folders, family: Family) -> Family:
    """Read all headers, and compare names and shapes with what the model has.

    Returns:
        The family, with what is tied and what is not in these files.

    Raises:
        FileError: As `open_models`.
        ParamsError: As `open_models`.
    """
    if folders.is_adapter:
        family = replace(family, untied=untied_by(folders.tuned, family.names, family.config))
    with open_models(folders, family) as files:
        sides = [side for side in (files.old, files.tuned, files.new) if side is not None]
        untied = frozenset[str]().union(*(side.differing() for side in sides))
    return replace(family, untied=family.untied | untied) if untied else family


def unused_tensor_notes(folders: Folders, family: Family) -> list[str]:
    """A sentence on the tensors that the model has no place for, if there are any."""
    with open_models(folders, family) as files:
        sides = [side for side in (files.old, files.tuned, files.new) if side is not None]
    found = [f"{listed(side.left_out)} ({side.file.path.name})" for side in sides if side.left_out]
    return [f"Left out, as {family.name} has no such parts: {'; '.join(found)}."] if found else []


def load(folder: Path, family: Family, *, dtype: str, device: str = "cpu") -> LoadedModel:
    """Load a base or a fine-tune as the family has it.

    Raises:
        FileError: transformers cannot load the folder.
        ParamsError: Shapes differ from the family's.
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
        except Exception as error:  # transformers reads more of a folder than we have checked
            raise FileError(f"{folder}: cannot be loaded ({brief(error)})") from error
    own = {name: tensor.detach() for name, tensor in own_tensors(model.eval()).items()}
    absent = frozenset(info["missing_keys"]) | {str(entry[0]) for entry in info["mismatched_keys"]}
    with torch.no_grad():
        for name in absent - {name for name in own if family.names.may_lack(name)}:
            own[name].zero_()
    model.to(device)
    return LoadedModel(model, params_of(model), absent)


def untie_(model: Any, names: Collection[str]) -> Any:
    """Give tensors that are tied to others a memory of their own; the same model."""
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
    """The configuration of a model folder, set up as we run it.

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
    except Exception as error:  # classes of configurations check what they like, or nothing
        raise FileError(
            f"{path}: no configuration that transformers knows ({brief(error)})"
        ) from error


def _refuse_many_layers(config: Any) -> None:
    """Raise SettingsError before a network is made that would take hours to make."""
    for known in (config, config.get_text_config()):
        for key in LAYERS:
            count = getattr(known, key, None)
            if isinstance(count, int) and count > MOST_LAYERS:
                raise SettingsError(
                    f"{config.name_or_path}/config.json: {key} is {count}, more than any network "
                    f"has; at most {MOST_LAYERS} are made"
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
