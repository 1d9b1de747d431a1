"""The docstrings of public names: an example that runs, shapes of tensors, conditions of errors."""

import dataclasses
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "src" / "symport"
ROOMS = sorted(
    path.stem
    for path in LIBRARY.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
)
TESTED = [room for room in ROOMS if not room.startswith("__")]

# Entry points without an example, each with the reason.
WITHOUT_EXAMPLE = {
    "report.outcome_sections": "a selection takes a model, data and training",
    "report.write_outcome": "a selection takes a model, data and training",
    "selection.Parameterization": "abstract: each kind of it has an example",
}

SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):$", re.MULTILINE)
ENTRY = re.compile(r"^    (\w+)( \([^)]*\))?: ", re.MULTILINE)
SHAPE = re.compile(r"shape|`\([^`]*\)`|scalar", re.IGNORECASE)
TENSORS = {"Tensor", "Tensor | None"}
RETIRED = re.compile(
    r"\b(alike|compet\w+|contest\w*|likeness|mend(ed|s|ing)?|naive|pinned|rival\w*|told|wonders?)\b",
    re.IGNORECASE,
)


def public_names(room: str) -> dict[str, Any]:
    """What a room exports: the names of its door, or what a room of one file defines."""
    module = importlib.import_module(f"symport.{room}")
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {n: v for n, v in own.items() if getattr(v, "__module__", "") == module.__name__}


def has_docstring(value: Any) -> bool:
    """Whether a name is a function or a class; constants and type aliases need no docstring."""
    return get_origin(value) is None and (inspect.isroutine(value) or inspect.isclass(value))


PUBLIC = {
    f"{room}.{name}": value
    for room in TESTED
    for name, value in public_names(room).items()
    if has_docstring(value)
}


def needs_example(name: str, value: Any) -> bool:
    """Functions and classes with behaviour do; errors, protocols and plain records do not."""
    if name in WITHOUT_EXAMPLE:
        return False
    if not inspect.isclass(value):
        return True
    if issubclass(value, BaseException) or getattr(value, "_is_protocol", False):
        return False
    return not dataclasses.is_dataclass(value) or bool(list(methods(value)))


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for name, value in vars(kind).items():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


def documented() -> dict[str, Any]:
    """Public functions, classes and their methods, by where they stand."""
    found = dict(PUBLIC)
    for name, value in PUBLIC.items():
        if inspect.isclass(value):
            found |= {f"{name}.{method}": function for method, function in methods(value)}
    return found


DOCUMENTED = documented()


def sections(docstring: str) -> dict[str, str]:
    """The text of each section, and under "" what comes before the first."""
    parts = SECTION.split(inspect.cleandoc(docstring))
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def entries(section: str) -> list[tuple[str, str]]:
    """The names that a section describes, each with its description on one line."""
    parts = ENTRY.split(section.strip("\n"))
    texts = [" ".join(text.split()) for text in parts[3::3]]
    return list(zip(parts[1::3], texts, strict=True))


def tensors_of(value: Any) -> list[str]:
    """The arguments of a function, or the fields of a record, that are annotated as a tensor."""
    if inspect.isclass(value) and not dataclasses.is_dataclass(value):
        value = value.__init__
    if dataclasses.is_dataclass(value):
        hints = {field.name: field.type for field in dataclasses.fields(value)}
    else:
        hints = {n: p.annotation for n, p in inspect.signature(value).parameters.items()}
    texts = {n: hint if isinstance(hint, str) else hint_name(hint) for n, hint in hints.items()}
    return [name for name, text in texts.items() if text in TENSORS]


def hint_name(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("torch.", "")


def without_shape(docstring: str, names: list[str]) -> list[str]:
    """The tensors among some names whose description gives no shape."""
    parts = sections(docstring)
    described = dict(entries(parts.get("Args", "")) + entries(parts.get("Attributes", "")))
    return [name for name in names if not SHAPE.search(described.get(name, parts[""]))]


def vague_errors(docstring: str) -> list[str]:
    """The errors whose condition is only a reference to another function."""
    raised = entries(sections(docstring).get("Raises", ""))
    return [name for name, text in raised if re.match(r"(Like|As)\b|See\b", text)]


def doctests_of(module: ModuleType) -> dict[str, doctest.DocTest]:
    return {test.name: test for test in doctest.DocTestFinder(exclude_empty=True).find(module)}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_has_a_docstring(name: str):
    assert DOCUMENTED[name].__doc__, f"{name}: no docstring"


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if needs_example(name, value)]
)
def test_an_entry_point_has_an_example_that_runs(name: str):
    value = PUBLIC[name]
    module = importlib.import_module(value.__module__)
    found = doctests_of(module).get(f"{module.__name__}.{value.__name__}")
    assert found is not None, f"{name}: no example that doctest finds"
    assert found.examples, f"{name}: no example"
    assert not [e for e in found.examples if doctest.SKIP in e.options], f"{name}: skipped"
    assert re.search(r"^\s*Example:$", value.__doc__, re.MULTILINE), f"{name}: no 'Example:'"


@pytest.mark.parametrize("name", [n for n, v in DOCUMENTED.items() if tensors_of(v)])
def test_a_tensor_has_its_shape(name: str):
    value = DOCUMENTED[name]
    missing = without_shape(value.__doc__ or "", tensors_of(value))
    assert not missing, f"{name}: no shape is given for {missing}"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_error_has_a_condition(name: str):
    assert not vague_errors(DOCUMENTED[name].__doc__ or ""), name


@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_retired_word(name: str):
    words = name.replace("_", " ") + " " + (DOCUMENTED[name].__doc__ or "")
    found = RETIRED.search(words)
    assert not found, f"{name}: {found}"


def test_exceptions_exist():
    assert PUBLIC.keys() >= WITHOUT_EXAMPLE.keys()


GOOD = """Multiply.

    Args:
        a: The left factor, shape
            `(m, n)`.
        b: Another.

    Raises:
        SpecError: As `other` has it.
        FileError: It cannot be read.
    """


def test_the_checks_find_what_is_missing():
    assert without_shape(GOOD, ["a", "b"]) == ["b"]
    assert without_shape("The trace of `(n, n)`.", ["a"]) == []
    assert vague_errors(GOOD) == ["SpecError"]
    assert RETIRED.search("bases that read text alike")
