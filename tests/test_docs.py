"""The examples of README.md and docs/ are run as written, page by page.

Blocks marked `python` share one namespace. One with a `title` is a file that later blocks use, and
`bash {.run}` is run in the same folder. What must not run is marked `{.no-run}`.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
WRITTEN = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
PAGES = [*WRITTEN, *sorted((REPOSITORY / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(python|bash)\b([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block of a page; `line` is where its code begins."""

    line: int
    language: str
    info: str
    code: str

    @property
    def title(self) -> str | None:
        found = re.search(r'title="([^"]*)"', self.info)
        return found[1] if found else None

    @property
    def runs(self) -> bool:
        return ".run" in self.info if self.language == "bash" else "no-run" not in self.info


def blocks(text: str) -> list[Block]:
    return [
        Block(
            text.count("\n", 0, found.start(4)) + 1,
            found[2],
            found[3],
            "".join(line[len(found[1]) :] for line in found[4].splitlines(keepends=True)),
        )
        for found in FENCE.finditer(text)
    ]


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text(encoding="utf-8")) if block.runs]


def page_name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def run_shell(block: Block) -> None:
    # The commands of the same environment, whether it is activated or not.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"line {block.line}:\n{answer.stdout}{answer.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=page_name)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__main__"}
    before = set(sys.modules)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in runnable(page):
            if block.language == "bash":
                run_shell(block)
            elif block.title:
                (tmp_path / block.title).write_text(block.code, encoding="utf-8")
            else:
                # Blank lines in front, so that a traceback shows the line of the page.
                code = "\n" * (block.line - 1) + block.code
                exec(compile(code, str(page), "exec"), namespace)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_blocks_are_found_with_their_lines_and_marks():
    text = 'a\n```python\nx = 1\n```\n- b\n\n    ```python title="f.py"\n    y = 2\n    ```\n'
    text += "```python {.no-run}\n1\n```\n```python no-run\n2\n```\n```bash\n3\n```\n"
    text += "```bash {.run}\n4\n```\n```pycon\n5\n```\n"
    found = [block for block in blocks(text) if block.runs]
    assert [(block.line, block.title, block.code) for block in found] == [
        (3, None, "x = 1\n"),
        (8, "f.py", "y = 2\n"),
        (20, None, "4\n"),
    ]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_fence_is_closed(page: Path):
    fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
