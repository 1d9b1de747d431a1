"""One word for one thing: no public name, flag, key of a setting or of a result is a retired one.

The words that are used are listed in docs/design.md.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import typer.main
from nets import source, spec, weights
from nets_port import RULES, selection_problem
from test_house import MODULES, REPOSITORY

from symport.cli._app import CONFIGURED, app
from symport.methods import Identity, transfer
from symport.selection import numbers_of, select
from symport.settings import RENAMED, RENAMED_METHODS

RETIRED = {  # parts of names, and what to write instead
    "alike": "uniform, or equal",
    "apart": "distinct, or split",
    "compete": "select",
    "competition": "selection",
    "competitor": "candidate",
    "competitors": "candidates",
    "contest": "problem",
    "contestant": "candidate",
    "duel": "comparison",
    "fed": "the batches",
    "held": "fixed, or what the tensors are",
    "hold": "fix",
    "judge": "evaluate",
    "judged": "evaluated",
    "length": "scale",
    "lengths": "scales",
    "likeness": "cka",
    "mend": "repair",
    "modes": "evaluation",
    "naive": "identity",
    "pin": "fix",
    "pinned": "fixed",
    "recompute": "activation_checkpointing",
    "rival": "baseline",
    "rivals": "baselines",
    "said": "notes",
    "say": "print",
    "standin": "model_copy",
    "starts": "initializations",
    "stays": "fixed",
    "told": "reported",
    "worth": "score",
}
ALLOWED = {  # names in which such a word is right
    "held_out": "the examples that only report",
    "axis_length": "the size of an axis, not a factor",
    "axis_blocks(length)": "the size of an axis",
    "axis_index(length)": "the size of an axis",
    "max_length": "the most tokens of a text, as in tokenizers",
}


@dataclass(frozen=True)
class Name:
    """A public name, and where it is."""

    name: str
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.owner}({self.name})" if self.owner else self.name


def public(module: ModuleType) -> Iterator[Name]:
    """The names of a door, and the fields, methods and parameters of what stands behind it."""
    for name in exported(module):
        thing = getattr(module, name)
        yield Name(name)
        if inspect.isclass(thing) and not thing.__module__.startswith("symport"):
            continue
        yield from (Name(key, name) for key in parameters_of(thing))
        if not inspect.isclass(thing):
            continue
        yield from (Name(key, name) for key in getattr(thing, "model_fields", ()))
        for key, value in vars(thing).items():
            if not key.startswith("_"):
                yield Name(key, name)
                yield from (Name(other, f"{name}.{key}") for other in parameters_of(value))


def exported(module: ModuleType) -> list[str]:
    """What a module exports: its `__all__`, or what is defined in it."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def parameters_of(thing: object) -> list[str]:
    """The parameters of a function, or of a class: the fields, where it is a dataclass."""
    thing = getattr(thing, "__func__", thing)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return []
    try:
        return [name for name in inspect.signature(thing).parameters if not name.startswith("_")]
    except ValueError:  # a class that is made in C
        return []


def retired(text: str) -> list[str]:
    """The retired words in a name, a flag or a key."""
    for allowed in ALLOWED:
        text = text.replace(allowed, "").replace(allowed.replace("_", "-"), "")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).lower()
    return [word for word in re.split(r"[^a-z]+", words) if word in RETIRED]


ROOMS = [name for name in MODULES if re.fullmatch(r"symport\.[a-z]\w*(\.[a-z]\w*)?", name)]


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_is_a_retired_word(room: str):
    names = list(public(importlib.import_module(room)))
    found = {str(n) for n in names if str(n) not in ALLOWED and retired(n.name)}
    assert not found


def test_no_flag_and_no_setting_is_a_retired_word():
    group: Any = typer.main.get_command(app)  # of several commands, which its type leaves open
    commands = group.commands.values()
    flags = [flag for command in commands for param in command.params for flag in param.opts]
    keys = [key for _, schema in CONFIGURED.values() for key in schema.model_fields]
    assert len(flags) > 30
    assert not [name for name in [*flags, *keys] if retired(name)]


def keys(found: object) -> Iterator[str]:
    """All keys in what a JSON file holds."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield key
            yield from keys(value)
    if isinstance(found, list):
        for value in found:
            yield from keys(value)


def test_no_key_of_a_result_is_a_retired_word(tmp_path):
    init, way = weights(2), source(2)
    transfer(way, init, spec(), Identity(), score=lambda _: 0.0, folder=tmp_path)
    written = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    steps = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    names = set(keys([written, steps]))
    assert {"choice", "scale", "score", "method"} <= names
    assert not [name for name in names if retired(name)]


def test_no_key_of_a_selection_is_a_retired_word():
    found = numbers_of(select(selection_problem(), RULES, folder=None), seed=0)
    names = set(keys(found))
    assert {"picked", "candidates", "share_of_lift", "scale"} <= names
    assert not [name for name in names if retired(name)]


def test_the_changelog_lists_every_renamed_setting_and_method():
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for old, new in {**RENAMED, **RENAMED_METHODS}.items():
        flag = old.replace("_", "-")
        assert [r for r in rows if re.search(rf"\b({old}|{flag})\b", r) and new in r], old


def test_every_renamed_setting_has_a_new_name_that_is_not_retired():
    new = [*RENAMED.values(), *RENAMED_METHODS.values()]
    assert not [name for name in new if retired(name)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HeldWeights", ["held"]),
        ("longest_length", ["length"]),
        ("held_out_examples", []),
        ("--hold-back", ["hold"]),
        ("max_length", []),
        ("thresholds", []),
    ],
)
def test_words_are_found_in_names(name: str, words: list[str]):
    assert retired(name) == words
