"""The examples of README.md and docs/ are run as written, page by page."""

import re
import shlex
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    page
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    if "```python" in page.read_text(encoding="utf-8")
]
FENCE = re.compile(r"^( *)```python([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def runnable(text: str) -> list[tuple[int, str]]:
    """First line number and code of each python block that is not marked `no-run`."""
    return [
        (text.count("\n", 0, block.start(3)) + 1, undented(block[3], len(block[1])))
        for block in FENCE.finditer(text)
        if "no-run"
        not in shlex.split(block[2].replace("{", " ").replace("}", " ").replace(".", " "))
    ]


def undented(code: str, indent: int) -> str:
    return "".join(line[indent:] for line in code.splitlines(keepends=True))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__main__"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for line, code in runnable(page.read_text(encoding="utf-8")):
            # Blank lines in front, so that a traceback shows the line of the page.
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def test_blocks_are_found_with_their_lines_and_marks():
    text = "a\n```python\nx = 1\n```\n- b\n\n    ```python\n    y = 2\n    ```\n"
    text += "```python {.no-run}\n...\n```\n```python no-run\n...\n```\n```bash\nls\n```\n"
    assert runnable(text) == [(3, "x = 1\n"), (8, "y = 2\n")]


def test_a_fence_that_is_never_closed_is_not_overlooked():
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) % 2 == 0, page_name(page)
