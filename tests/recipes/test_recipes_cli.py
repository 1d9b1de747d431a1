import pytest
from test_page import OUTCOMES
from typer.testing import CliRunner

from symport.errors import SettingsError
from symport_recipes.cli import app
from symport_recipes.experiment import write_outcome


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def ran(folder, *options: str) -> list[str]:
    invoke(
        "run", "fig5-cifar10", "--scale", "smoke", "--out", str(folder),
        "--cache", str(folder / "trained"), *options,
    )  # fmt: skip
    return sorted(path.name for path in (folder / "fig5-cifar10" / "smoke").iterdir())


def test_list_names_every_recipe_and_its_costs():
    shown = invoke("list").output
    assert "fig5-cifar10" in shown
    assert "GPU" in shown


def test_a_job_array_runs_one_pair_a_job_and_caches_what_is_trained(tmp_path):
    assert ran(tmp_path, "--seed", "1") == ["seed-1.json"]
    assert len(list((tmp_path / "trained").iterdir())) == 2  # source and target
    assert ran(tmp_path, "--seed", "0") == ["seed-0.json", "seed-1.json"]


def test_under_torchrun_each_process_takes_its_share(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ran(tmp_path, "--seeds", "3") == ["seed-1.json"]


def test_report_puts_the_pairs_together_on_a_page(tmp_path):
    folder = tmp_path / "fig5-cifar10" / "smoke"
    folder.mkdir(parents=True)
    for outcome in OUTCOMES:
        write_outcome(folder / f"seed-{outcome.seed}.json", outcome)
    invoke("report", str(tmp_path), "--page", str(tmp_path / "paper.md"))
    text = (tmp_path / "paper.md").read_text(encoding="utf-8")
    assert "| fgmt, last | 78.2 | 85.0\u2009±\u20097.1 | +6.8 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "fig99"), "no recipe 'fig99': fig3-mlp, "),
        (("run", "fig5-mnist", "--scale", "huge"), "fig5-mnist has no scale 'huge': smoke, paper"),
        (("run", "fig5-cars", "--scale", "cpu"), "fig5-cars has no scale 'cpu': paper"),
        (("report", "nowhere"), "nowhere holds no results: run a recipe"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(arguments, message):
    with pytest.raises(SettingsError, match=message):
        invoke(*arguments)
