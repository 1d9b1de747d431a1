"""Compare the configurations of models: do they compute the same function of their weights?

The keys that the configuration's own class reads are compared; other keys of a file have no effect.
Shapes are compared by the weights. Where positions, rotary embeddings, windows and the eps of norms
differ between two bases, each base keeps its own, the result has those of the new base, and a note
reports it. Any other difference has to be accepted by the user.
"""

import copy
import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from symport.errors import SettingsError
from symport.huggingface._tokenizers import about_tokens
from symport.model import own_tensors
from symport.params import listed

# Names of keys by what they are for: 830 classes of transformers have 2362 keys, and new ones come.
LIMIT = re.compile(r"max_.*position|n_positions|n_ctx$|max_seq|context_length$")
NATURAL = re.compile(
    LIMIT.pattern + r"|rope|rotary|sliding|window|layer_types$|attention_chunk|local_attention"
    r"|(^|_)eps(ilon)?(_|$)"
)
TRAINING = re.compile(
    r"(^|_)init(ializer)?(_|$)|(^|_)loss(es)?(_|$)|(token_ids?|token_index|_cache|pretraining_tp)$"
    r"|^output_router_logits$"
)
RATE = re.compile(r"drop")  # of dropout, where it is a number
LONGEST = 60  # characters of a value in a message

Known = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Agreed:
    """The configurations that result from comparing those of three models.

    Attributes:
        source: That of the old base and its fine-tune.
        result: That of the new base and the result; the same object if nothing differs.
        notes: A sentence on each difference and its effect.
    """

    source: Any
    result: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configs:
    """Three configurations with the folders that they are from.

    Attributes:
        old: Of the old base.
        tuned: Of the fine-tune; None if it is an adapter, which has none of its own.
        new: Of the new base.
    """

    old: tuple[Path, Any]
    tuned: tuple[Path, Any] | None
    new: tuple[Path, Any]


def agree(models: Configs, build: Callable[[Any], Any], accept: Collection[str] = ()) -> Agreed:
    """Compare three configurations, and derive that of each side.

    Where two agree and the third does not, the result has the third's value: what the new base
    changed, and what the fine-tune changed. Positions, rope, windows and eps are the new base's.

    Args:
        models: The configurations.
        build: Makes the model of a configuration, to tell what its shapes depend on.
        accept: Keys whose differences are accepted.

    Raises:
        SettingsError: Something else differs and is not accepted; the message says how to.
    """
    (old_path, old), (new_path, new) = models.old, models.new
    tuned_path, tuned = models.tuned or models.old
    ours, theirs, third = known(old), known(tuned), known(new)
    if odd := sorted(set(accept) - {*ours, *theirs, *third}):
        raise SettingsError(f"accept: {type(old).__name__} reads no key {listed(odd)}")
    bases, changes = _odd(ours, third), _odd(ours, theirs)
    differences = [
        _Difference(key, (old_path, ours.get(key)), (path, side.get(key)), is_base)
        for keys, path, side, is_base in (
            (bases, new_path, third, True),
            (changes, tuned_path, theirs, False),
        )
        for key in keys
    ]
    _refuse([d for d in differences if not d.is_natural and d.key not in accept], old, build)
    notes = tuple(difference.note() for difference in differences)
    if models.tuned is None:
        return Agreed(old if bases else new, new, notes)
    mine = [key for key in {*bases, *changes} if _is(NATURAL, key) or key not in changes]
    result = with_values(tuned, {key: third[key] for key in mine if key in third})
    return Agreed(tuned, result if mine else tuned, notes)


def known(config: Any, prefix: str = "") -> dict[str, Any]:
    """The keys that a configuration's class reads and that change what the network computes.

    Parts of a configuration are followed; their keys have the names of the parts before them, such
    as `text_config.hidden_act`.

    Args:
        config: A configuration of transformers.
        prefix: What stands before each name.
    """
    from transformers import PretrainedConfig

    common = set(inspect.signature(PretrainedConfig).parameters)
    read = {name for kind in type(config).__mro__ for name in _parameters(kind)} - common
    found: dict[str, Any] = {f"{prefix}model_type": config.model_type}
    for name in sorted(read | set(config.sub_configs)):
        value = getattr(config, name, None)
        if isinstance(value, PretrainedConfig):
            found |= known(value, f"{prefix}{name}.")
        elif not _only_trains(name, value):
            found[prefix + name] = _plain(value)
    return found


def with_values(config: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a configuration in which some keys, named as by `known`, have other values."""
    changed = copy.deepcopy(config)
    for key, value in values.items():
        *parts, name = key.split(".")
        place = changed
        for part in parts:
            place = getattr(place, part)
        setattr(place, name, copy.deepcopy(value))
    return changed


@dataclass(frozen=True)
class _Difference:
    """One key in which a model is not like the old base."""

    key: str
    ours: tuple[Path, Any]
    other: tuple[Path, Any]
    is_base: bool

    @property
    def is_natural(self) -> bool:
        return _is(NATURAL if self.is_base else LIMIT, self.key)

    @property
    def whose(self) -> str:
        """Which of them the result has."""
        is_new = self.is_base or _is(NATURAL, self.key)
        return f"the result has that of the {'new base' if is_new else 'fine-tune'}"

    def note(self) -> str:
        return f"{self}; {self.whose}."

    def __str__(self) -> str:
        (ours, a), (other, b) = self.ours, self.other
        left, right = _apart(a, b)
        return f"{self.key} is {left} in {ours}, {right} in {other}"


def _refuse(odd: list[_Difference], old: Any, build: Callable[[Any], Any]) -> None:
    """Raise SettingsError unless the list is empty; what shapes depend on cannot be accepted."""
    for difference in odd:
        if _shapes_depend_on(difference.key, difference.other[1], old, build):
            paths = (difference.ours[0], difference.other[0])
            more = about_tokens(*paths) if _leaf(difference.key) == "vocab_size" else ""
            raise SettingsError(f"not one architecture: {difference}{more}")
    if odd:
        first = odd[0]
        flags = f"--set accept={','.join(dict.fromkeys(d.key for d in odd))}"
        why = (
            "which weights do not show"
            if first.is_base
            else "which the fine-tune changed against its old base"
        )
        raise SettingsError(
            f"not one way to compute: {first}, {why}; {flags} goes on, and {first.whose}"
        )


def _shapes_depend_on(key: str, value: Any, config: Any, build: Callable[[Any], Any]) -> bool:
    """Whether a model has other tensors where a key has another value."""
    if _leaf(key) == "model_type":
        return True
    try:
        return _shapes(build(config)) != _shapes(build(with_values(config, {key: value})))
    except Exception:  # whatever a model says to sizes that do not fit each other
        return True


def _shapes(model: Any) -> dict[str, torch.Size]:
    """The tensors of a model, each under its first name."""
    tensors = own_tensors(model)
    first = {id(tensor): name for name, tensor in reversed(tensors.items())}
    return {name: tensors[name].shape for name in first.values()}


def _odd(a: Known, b: Known) -> list[str]:
    """The keys that differ, the kind of model before all that follows from it."""
    keys = sorted({*a, *b}, key=lambda key: (_leaf(key) != "model_type", key))
    return [key for key in keys if a.get(key) != b.get(key)]


def _parameters(kind: type) -> Collection[str]:
    """What a class takes when it is made, apart from what it passes on."""
    signature = inspect.signature(kind.__init__).parameters
    starred = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, p in signature.items() if name != "self" and p.kind not in starred]


def _only_trains(name: str, value: Any) -> bool:
    """Whether a key matters in training alone, or not to the network."""
    if TRAINING.search(name):
        return True
    return RATE.search(name) is not None and not isinstance(value, bool | list | tuple | str)


def _plain(value: Any) -> Any:
    """As JSON has it; `type` is the old word for `rope_type`."""
    value = json.loads(json.dumps(value, default=str))
    if isinstance(value, dict):
        content = cast("dict[str, Any]", value)
        return {k: _plain(v) for k, v in content.items() if k != "type" or "rope_type" not in value}
    return value


def _is(kind: re.Pattern[str], key: str) -> bool:
    return kind.search(_leaf(key)) is not None


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _apart(a: Any, b: Any) -> tuple[str, str]:
    """Two values for a message: of records, the entries that differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        x, y = cast("dict[str, Any]", a), cast("dict[str, Any]", b)
        names = [name for name in {**x, **y} if x.get(name) != y.get(name)]
        a, b = ({n: side[n] for n in names if n in side} for side in (x, y))
    left, right = (
        text if len(text := repr(v)) <= LONGEST else f"{text[:LONGEST]}…" for v in (a, b)
    )
    return left, right
