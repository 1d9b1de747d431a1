"""Small damages to files that a port reads, each drawn by a seed."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONG = "n" * 5000


def deep(path: Path) -> str:
    """Deeper than any reader goes; YAML's is slow."""
    levels = 2_000 if path.suffix == ".yaml" else 50_000
    return "[" * levels + "]" * levels


VALUES = [
    None, True, False, 0, -1, 1, 3, 10**6, 10**18, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "../x", "/", "\0", LONG, "\ud800", [], [None], ["x"], [[]], {}, {"x": 1},
    {"": {}}, list(range(300)),
]  # fmt: skip


def damaged(path: Path, draw: random.Random) -> str:
    """Damage a file in place; what was done, for the message of a failure."""
    kinds: list[Callable[[Path, random.Random], str]] = [_bytes]
    if path.suffix in (".json", ".jsonl", ".yaml"):
        kinds = [_structure] * 4 + [_bytes]
    if path.suffix == ".safetensors":
        kinds = [_header] * 4 + [_bytes]
    return draw.choice(kinds)(path, draw)


def _bytes(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    place = draw.randrange(len(content) + 1)
    changes = {
        "cut short": content[:place],
        "empty": b"",
        "no UTF-8": content[:place] + b"\xff\xfe\x80" + content[place:],
        "zeros": content[:place] + b"\0" * 8 + content[place:],
        "twice": content + content,
        "another byte": content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :],
        "null": b"null",
        "a list": b"[]",
        "a text": b'"x"',
        "deep": deep(path).encode(),
        "a mark in front": b"\xef\xbb\xbf" + content,
    }
    what = draw.choice([*changes, "a folder", "missing", "a link to itself"])
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a link to itself":
        path.symlink_to(path.name)
    elif what != "missing":
        path.write_bytes(changes[what])
    return f"{path.name}: {what} at {place}"


def _structure(path: Path, draw: random.Random) -> str:
    content = path.read_text(encoding="utf-8")
    parts = content.split("\n") if path.suffix == ".jsonl" else [content]
    number = draw.randrange(len(parts))
    tree, what = _changed(json.loads(parts[number]), draw)
    parts[number] = json.dumps(tree).replace('"DEEP"', deep(path))
    path.write_text("\n".join(parts), encoding="utf-8")
    return f"{path.name}: {what}"


def _header(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    tree, what = _changed(json.loads(content[8 : 8 + size]), draw)
    header = json.dumps(tree).encode()
    length = draw.choice([len(header)] * 8 + [0, 2**63 - 1, 2**64 - 1, len(header) - 1])
    path.write_bytes(length.to_bytes(8, "little") + header + content[8 + size :])
    return f"{path.name}: header: {what}, length {length}"


def _changed(tree: Any, draw: random.Random) -> tuple[Any, str]:
    """One value dropped, replaced, renamed, doubled or nested, somewhere in a tree."""
    places = list(_places(tree))
    if not places:
        return draw.choice(VALUES), "all of it"
    owner, key = draw.choice(places)
    kind = draw.choice(["drop", "replace", "replace", "replace", "rename", "nest", "deep", "swap"])
    what = f"{kind} {str(key)[:40]}"
    if kind == "drop":
        del owner[key]
    elif kind == "replace":
        owner[key] = draw.choice(VALUES)
        what += f" by {str(owner[key])[:40]!r}"
    elif kind == "rename" and isinstance(owner, dict):
        owner[draw.choice([LONG, "", "x", "../x.safetensors", "README.md"])] = owner.pop(key)
    elif kind == "nest":
        owner[key] = {"x": [owner[key]]}
    elif kind == "deep":
        owner[key] = "DEEP"
    else:
        other, place = draw.choice(places)
        owner[key] = other.get(place) if isinstance(other, dict) else other[place]
        what += f" with {str(place)[:40]}"
    return tree, what


def _places(tree: Any):
    """Every key and index of a tree, with what holds it; of long lists and mappings the ends."""
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = list(range(len(tree)))
    else:
        return
    for key in keys if len(keys) <= 60 else [*keys[:20], *keys[-20:]]:
        yield tree, key
        yield from _places(tree[key])
