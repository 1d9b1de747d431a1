"""Count the rooms of the library, the levels of their import graph, and its edges.

A room is an entry of `src/symport`. An arrow goes from a room to one that it imports; a floor is a
level of rooms that import only rooms of the floors below.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "symport"


def room_of(path: Path) -> str:
    """The first part of a path below the library."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """Rooms that a file imports, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = node.module.split(".")
            if parts[0] == "symport":
                yield from parts[1:2] or [alias.name for alias in node.names]


def main() -> None:
    """Print the counts and the floors."""
    arrows: dict[str, set[str]] = {}
    lines = 0
    for path in SOURCE.rglob("*.py"):
        lines += len(path.read_text(encoding="utf-8").splitlines())
        room = room_of(path)
        if not room.startswith("__"):
            arrows.setdefault(room, set()).update(set(imported(path)) - {room})
    left, floors = dict(arrows), list[list[str]]()
    while left:
        free = sorted(room for room, others in left.items() if not others & left.keys())
        if not free:
            sys.exit(f"import cycle among {', '.join(sorted(left))}")
        floors.append(free)
        left = {room: others for room, others in left.items() if room not in free}
    count = sum(map(len, arrows.values()))
    print(f"{len(arrows)} rooms, {len(floors)} floors, {count} arrows, {lines} lines")
    for floor in floors:
        print("  " + ", ".join(f"{room} ({len(arrows[room])})" for room in floor))


if __name__ == "__main__":
    main()
