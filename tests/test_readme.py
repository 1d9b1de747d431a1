import json
import re
from pathlib import Path

from symport_recipes.experiments._demo import COLUMNS, Outcome, table, verdict

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def committed() -> list[Outcome]:
    text = (REPOSITORY / "docs/results/result.json").read_text(encoding="utf-8")
    return [Outcome(**outcome) for outcome in json.loads(text)["outcomes"]]


def test_the_numbers_of_the_readme_are_those_of_the_committed_run():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*\|$", README, re.MULTILINE)
    ]
    assert rows[0] == ["labels", *COLUMNS]
    assert rows[2:] == table(committed())


def test_the_readme_says_who_wins_as_the_run_does():
    assert verdict(committed()) in " ".join(README.split())


def test_the_first_runnable_lines_stand_on_the_first_screen():
    before = README[: README.index("```python")]
    assert len(before.splitlines()) < 15


def test_the_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPOSITORY / link).exists(), link
