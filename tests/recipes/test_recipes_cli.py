import json
from dataclasses import asdict

import pytest
from test_experiment import outcome
from typer.testing import CliRunner

from symport.errors import SettingsError
from symport_recipes.cli import app


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def write_outcomes(folder):
    (folder / "smoke").mkdir(parents=True)
    for seed in range(2):
        text = json.dumps(asdict(outcome(seed, 0.8)))
        (folder / "smoke" / f"seed-{seed}.json").write_text(text)


def test_list_names_every_recipe():
    assert "fig5-mnist-lr0.01" in invoke("list").output


def test_run_shows_results_that_are_there(tmp_path):
    write_outcomes(tmp_path)
    shown = invoke("run", "smoke", "--seeds", "2", "--out", str(tmp_path)).output
    assert "80.00" in shown
    assert "2 seed pairs" in " ".join(shown.split())


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_report_writes_a_page_from_result_files(suffix, tmp_path):
    write_outcomes(tmp_path)
    page = tmp_path / f"page.{suffix}"
    invoke("report", str(tmp_path), "--page", str(page))
    text = page.read_text(encoding="utf-8")
    assert "80.00 ± 0.00" in text
    assert ("page.png" in text) == (suffix == "md")


def test_an_unknown_recipe_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no recipe 'fig99'"):
        invoke("run", "fig99", "--out", str(tmp_path))


def test_a_report_on_nothing_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="holds no results"):
        invoke("report", str(tmp_path), "--page", str(tmp_path / "page.md"))
