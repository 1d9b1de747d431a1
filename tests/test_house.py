"""The shape of the code itself: who may import whom, how long things are, what is public."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from statistics import median

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY = REPOSITORY / "src" / "symport"
RECIPES = REPOSITORY / "src" / "symport_recipes"
SOURCES = sorted([*LIBRARY.rglob("*.py"), *RECIPES.rglob("*.py")])

# A room imports only from rows above its own. In a row with several names, none imports another.
ROOMS: list[set[str]] = [
    {"errors"},
    {"settings", "params", "distributed", "progress", "memory"},
    {"data", "io"},
    {"spec", "trajectory"},
    {"model", "symmetry", "matching"},
    {"references"},
    {"methods", "outofcore"},
    {"lora"},
    {"selection"},
    {"report", "tasks", "huggingface"},
    {"port"},
    {"cli"},
    {"__init__", "__main__"},
]
RECIPE_ROOMS: list[set[str]] = [
    {"data"},
    {"networks"},
    {"training"},
    {"setups"},
    {"runner"},
    {"experiments"},
    {"figures", "ports", "demo"},
    {"recipes"},
    {"cli"},
    {"__init__"},
]
TABLES = {"symport": ROOMS, "symport_recipes": RECIPE_ROOMS}
FLOORS = {
    package: {name: depth for depth, names in enumerate(rows) for name in names}
    for package, rows in TABLES.items()
}
MOST_ENTRIES = 26

MOST_FILE_LINES = 400
MOST_BODY_LINES = 80
MEDIAN_BODY_LINES = 10
MOST_PUBLIC_NAMES = 18
HEAVY = {
    "PIL",
    "jinja2",
    "matplotlib",
    "numba",
    "rich",
    "scipy.optimize",
    "sklearn",
    "transformers",
    "typer",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imported(path: Path) -> Iterator[str]:
    """The full names of our own modules that a file imports, inside functions as well."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name if name in MODULES else str(node.module) for name in names]
            yield from (name for name in modules if name in MODULES)


def room(module: str) -> str:
    """The name in the table of layers: the first part below the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def functions(path: Path) -> Iterator[Function]:
    yield from (node for node in ast.walk(parsed(path)) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines of a function after its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def place(path: Path, node: Function | ast.ClassDef) -> str:
    return f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}"


@pytest.mark.parametrize("package", TABLES)
def test_every_room_has_a_floor(package: str):
    rooms = {room(name) for name in MODULES if name.startswith(f"{package}.")}
    assert rooms <= FLOORS[package].keys(), "add the new room to its table"


def test_no_two_files_of_tests_share_a_name():
    names = [path.name for path in (REPOSITORY / "tests").rglob("*.py")]
    assert len(names) == len(set(names)), "pytest imports them as modules of one name"


def test_the_design_page_names_every_room():
    page = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")
    public = [name for floors in FLOORS.values() for name in floors if not name.startswith("_")]
    assert not [name for name in public if not re.search(rf"`{name}[`/]", page)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_up_the_list(module: str):
    package = module.split(".")[0]
    floors = FLOORS[package]
    for other in imported(MODULES[module]):
        is_own = other.split(".")[0] == package
        assert is_own or package == "symport_recipes", f"{module} imports the recipes"
        if is_own and room(module) != room(other):
            assert floors[room(other)] < floors[room(module)], f"{module} imports {other}"


def test_no_module_imports_itself_through_others():
    edges = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    while leaves := [name for name, others in edges.items() if not others & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges, f"an import cycle runs through {sorted(edges)}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_file_is_short(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_FILE_LINES


def test_no_function_is_long():
    found = [
        place(path, function)
        for path in SOURCES
        for function in functions(path)
        if body_lines(function) > MOST_BODY_LINES
    ]
    assert not found


def test_most_functions_are_a_handful_of_lines():
    lengths = [body_lines(function) for path in SOURCES for function in functions(path)]
    assert median(lengths) <= MEDIAN_BODY_LINES


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_everything_public_says_what_it_is_for(path: Path):
    tree = parsed(path)
    assert ast.get_docstring(tree), "the file does not say what it is for"
    owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    public = [
        node
        for owner in owners
        if not getattr(owner, "name", "").startswith("_")
        for node in owner.body
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert not [place(path, node) for node in public if not ast.get_docstring(node)]


def test_few_names_at_the_top():
    import symport

    names = [name for name in getattr(symport, "__all__", []) if not name.startswith("__")]
    assert len(names) <= MOST_PUBLIC_NAMES
    assert all(hasattr(symport, name) for name in names)


def modules_after(program: str) -> set[str]:
    """What a new process has imported after some lines."""
    program = f"import sys\n{program}\nprint(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_importing_symport_loads_no_torch():
    loaded = modules_after("import symport")
    assert "symport.errors" in loaded
    assert not {*HEAVY, "torch", "numpy", "safetensors"} & loaded


def test_using_all_of_symport_loads_nothing_heavy_beyond_torch():
    loaded = modules_after("import torch, symport\nfor n in symport.__all__: getattr(symport, n)")
    assert "symport.methods" in loaded
    assert not (HEAVY & loaded) - modules_after("import torch")


def test_the_top_has_names_rooms_and_a_version():
    import symport

    assert re.fullmatch(r"\d+\.\d+.*", symport.__version__)
    assert symport.matching.__name__ == "symport.matching"
    with pytest.raises(AttributeError, match="has no attribute 'permutee'"):
        _ = symport.permutee
    assert {*symport.__all__} <= {*dir(symport)}


def test_no_module_has_the_name_of_a_function_at_the_top():
    import symport

    rooms = {room(name) for name in MODULES if name.startswith("symport.")}
    assert not rooms & ({*symport.__all__} - {"errors"})


DOORS = [name for name, path in MODULES.items() if path.name == "__init__.py"]


@pytest.mark.parametrize("package", [name for name in DOORS if "." in name])
def test_a_door_lists_its_names_in_order(package: str):
    names = list(importlib.import_module(package).__all__)
    order = {"SCREAMING": 0, "Class": 1, "function": 2}

    def kind(name: str) -> str:
        return "SCREAMING" if name.isupper() else "Class" if name[0].isupper() else "function"

    def natural(name: str) -> list[str]:
        return [part.zfill(9) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]

    assert names == sorted(names, key=lambda name: (order[kind(name)], natural(name)))
    assert not [name for name in names if not hasattr(importlib.import_module(package), name)]


def inner_files_of_other_rooms(module: str) -> list[str]:
    """What a module imports past the door of a package that it does not stand in."""
    own = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    found = []
    for other in imported(MODULES[module]):
        parts = other.split(".")
        shared = sum(1 for a, b in zip(own, parts, strict=False) if a == b)
        if len(parts) > max(shared, 1) + 1:  # another package is entered by any of its rooms
            found.append(other)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_through_doors(module: str):
    assert not inner_files_of_other_rooms(module)


@pytest.mark.parametrize("name", MODULES)
def test_files_inside_a_room_are_private(name: str):
    parts = name.split(".")
    is_door = MODULES[name].name == "__init__.py"
    assert is_door or len(parts) <= 2 or parts[-1].startswith("_")


def test_a_newcomer_sees_the_rooms():
    entries = [path for path in LIBRARY.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES


IGNORE = re.compile(r"#\s*(pyright|type):\s*ignore")
WITH_REASON = re.compile(r"# pyright: ignore\[\w+(, \w+)*\]  # \w.{3,}")


def comments(path: Path) -> Iterator[tuple[int, str]]:
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def test_what_pyright_is_not_to_say_has_its_rule_and_its_reason():
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in [*SOURCES, *(REPOSITORY / "tests").rglob("*.py")]
        for line, comment in comments(path)
        if IGNORE.match(comment) and not WITH_REASON.match(comment)
    ]
    assert not found


def test_an_ignore_without_a_reason_is_seen():
    reason = "  # a caller may pass anything"
    for rule in ("pyright: ignore", "type: ignore[override]", "pyright: ignore[reportCallIssue]"):
        assert IGNORE.match(f"# {rule}")
        assert not WITH_REASON.match(f"# {rule}")
    assert WITH_REASON.match(f"# pyright: ignore[reportCallIssue]{reason}")


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is unknown")
    answer = subprocess.run(
        [git, "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [REPOSITORY / name for name in answer.stdout.split("\0") if name]


def test_no_tracked_file_names_a_place_on_one_machine():
    # In halves, so that this file may be tracked too.
    forbidden = [("/" + name).encode() for name in ("work/", "root/", "tmp/bash_jobs", "home/")]
    found = [
        (path.relative_to(REPOSITORY), text.decode())
        for path in tracked_files()
        if path.is_file()
        for text in forbidden
        if text in path.read_bytes()
    ]
    assert not found


def test_body_lines_counts_neither_signature_nor_docstring():
    source = 'def f(\n    x,\n):\n    """Doc.\n\n    More.\n    """\n    y = x\n\n    return y\n'
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 3
    (stub,) = ast.parse('def f():\n    """Only words."""\n').body
    assert isinstance(stub, ast.FunctionDef)
    assert body_lines(stub) == 0


@pytest.mark.parametrize("package", TABLES)
def test_no_room_is_on_two_floors(package: str):
    assert all(not first & second for first, second in combinations(TABLES[package], 2))
