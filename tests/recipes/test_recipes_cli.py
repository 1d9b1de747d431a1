import pytest
from outcomes import OUTCOMES
from typer.testing import CliRunner

from symport.errors import DataError, SettingsError
from symport_recipes import cli
from symport_recipes.cli import app
from symport_recipes.runner._pairs import write_outcome


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


def test_a_seed_that_a_ring_of_networks_lacks_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(SettingsError, match="seed 7: this scene has the seeds 0 to 2 alone"):
        invoke("run", "fig4", "--scale", "cpu", "--seed", "7", "--out", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "scale", "cost"),
    [("fig4", "cpu", "1 hour on one core"), ("fig5-mnist", "paper", "12 minutes on two cores")],
)
def test_the_default_is_what_two_cores_can_do_and_its_cost_is_said(
    name, scale, cost, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(cli, "run", lambda *given, anew: seen.append(given[1]))
    said = invoke("run", name, "--out", str(tmp_path)).stderr
    assert seen == [tmp_path / name / scale]
    assert f"{name} at scale {scale}: a pair of seeds takes {cost}" in said


def test_counts_and_seeds_below_their_range_are_refused_by_the_parser():
    assert "--seeds" in invoke("run", "fig4", "--seeds", "0").output
    assert "--seed" in invoke("run", "fig4", "--seed", "-1").output


def test_fetch_says_where_the_data_are(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "fetch", lambda name, folder, *, show: folder / name)
    said = invoke("fetch", "mnist", "--to", str(tmp_path)).output
    assert (
        said == f"mnist is in {tmp_path / 'mnist'}; recipes find it with SYMPORT_DATA={tmp_path}\n"
    )


def test_report_puts_the_pairs_together_on_a_page(tmp_path):
    folder = tmp_path / "fig5-cifar10" / "cpu"
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
        (("run", "fig5-cars", "--scale", "cpu"), "fig5-cars has no scale 'cpu': smoke, paper"),
        (("run", "fig4", "--device", "gpu"), "no device 'gpu'; choose cpu, cuda"),
        (("report", "nowhere"), "nowhere holds no results: run a recipe"),
        (("fetch", "digits", "--to", "data"), "'digits' cannot be fetched; choose from mnist, "),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(arguments, message):
    with pytest.raises((SettingsError, DataError), match=message):
        invoke(*arguments)
