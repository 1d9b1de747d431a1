import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, nn

from symport_recipes.data import Examples
from symport_recipes.networks import initial
from symport_recipes.training import TrainSettings, train
from tests.joined import in_two_processes, run_joined

# 13 images: batches of 6, 6 and a last one of a single image, which one process must do alone.
SETTINGS = {
    "sgd": TrainSettings(epochs=2, batch_size=6, lr=0.05, weight_decay=1e-3, augment=True),
    "adam": TrainSettings(epochs=2, batch_size=6, lr=0.01, optimizer="adam", augment=True),
}


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 3)
    )


def pictures() -> Examples:
    pixels = torch.randint(0, 256, (13, 3, 8, 8), generator=Generator().manual_seed(1))
    return Examples(pixels.to(torch.uint8), torch.arange(13) % 3, (0.5,) * 3, (0.25,) * 3)


def trained_by(optimizer: str) -> dict[str, Any]:
    settings = SETTINGS[optimizer]
    init = initial(convolutional, 0)
    found = train(convolutional(), init, pictures(), settings, seed=3)
    return {
        "params": {name: tensor.tolist() for name, tensor in found.params.items()},
        "losses": [epoch.loss for epoch in found.history],
        "steps": [epoch.steps for epoch in found.history],
    }


def everything() -> dict[str, dict[str, Any]]:
    return {"sgd": trained_by("sgd"), "adam": trained_by("adam"), "normalised": normalised()}


@pytest.fixture(scope="module")
def in_both() -> dict[str, dict[str, Any]]:
    return in_two_processes("tests.recipes.training.test_epochs", "everything")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_processes_train_as_one_does(optimizer: str, in_both):
    alone, joined = trained_by(optimizer), in_both[optimizer]
    assert joined["steps"] == alone["steps"] == [3, 6]
    assert joined["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    for name, values in alone["params"].items():
        found = torch.tensor(joined["params"][name])
        torch.testing.assert_close(found, torch.tensor(values), rtol=1e-4, atol=1e-6)


def normalised() -> dict[str, Any]:
    """Running statistics after one step on four numbers, half of them in each process."""
    inputs = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
    net = nn.Sequential(nn.BatchNorm1d(1, momentum=1.0), nn.Linear(1, 2))
    init = dict(net.state_dict())
    settings = TrainSettings(steps=1, batch_size=4, lr=1e-9)
    found = train(net, init, (inputs, torch.tensor([0, 1, 0, 1])), settings, seed=0)
    return {"mean": found.params["0.running_mean"].tolist()}


def test_running_statistics_are_averaged_over_the_processes(in_both):
    assert in_both["normalised"]["mean"] == pytest.approx(
        [8.5]
    )  # of all four, whichever went where


def test_processes_work_on_a_pair_together_and_find_what_one_finds(tmp_path: Path):
    program = "import sys; from symport_recipes.cli import app; app(sys.argv[1:])"
    options = ("run", "fig5-mnist", "--scale", "smoke", "--seed", "0", "--cache")
    joined, alone = tmp_path / "joined", tmp_path / "alone"
    first, second = run_joined(
        "-c", program, *options, str(joined), "--out", str(joined), "--together"
    )
    assert "1 pair of seeds" in first
    assert second == ""
    from typer.testing import CliRunner

    from symport_recipes.cli import app

    CliRunner().invoke(app, [*options, str(alone), "--out", str(alone)], catch_exceptions=False)
    one, other = (
        json.loads((folder / "fig5-mnist" / "smoke" / "seed-0.json").read_text())
        for folder in (alone, joined)
    )
    assert other["settings"] == one["settings"]
    assert other["found"]["evaluations"] == one["found"]["evaluations"]
    for name, curve in one["found"]["curves"].items():
        assert other["found"]["curves"][name] == pytest.approx(curve, abs=0.02)  # 120 digits
    assert len(list(joined.glob("*.safetensors"))) == 2  # source and target, written once
