"""Every file in examples/ runs as it is, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
MOST_SECONDS = 600  # a slow example on two cores


def is_slow(path: Path) -> bool:
    """An example that takes more than 20 seconds says `# slow` on a line of its own."""
    return re.search(r"^# slow\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def marked(path: Path) -> object:
    return pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if is_slow(path) else [])


@pytest.mark.parametrize("path", [marked(path) for path in EXAMPLES])
def test_an_example_runs(path: Path, tmp_path: Path):
    answer = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout, "an example prints what it found"
