from pathlib import Path

import pytest
import torch
from torch import nn

from symport.errors import FileError
from symport.io import save_tensors
from symport.params import Params
from symport_recipes.data import Examples
from symport_recipes.networks import initial
from symport_recipes.training import TrainSettings, train, trained
from symport_recipes.training import _checkpoint as resuming

SGD = TrainSettings(epochs=4, batch_size=5, lr=0.05, schedule="cosine", augment=True)
ADAM = TrainSettings(steps=7, batch_size=5, lr=0.01, optimizer="adam")


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )  # fmt: skip


def pictures() -> Examples:
    pixels = torch.randint(0, 256, (12, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    return Examples(pixels.to(torch.uint8), torch.arange(12) % 3, (0.5,) * 3, (0.25,) * 3)


class Killed(Exception):  # noqa: N818
    pass


class Scores:
    """The sum of the weights; the program is killed at the n-th."""

    def __init__(self, killed_at: int = 99) -> None:
        self.count, self.killed_at = 0, killed_at

    def __call__(self, params: Params) -> float:
        self.count += 1
        if self.count == self.killed_at:
            raise Killed
        return float(sum(tensor.double().sum() for tensor in params.values()))


@pytest.fixture(autouse=True)
def _written_after_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "INTERVAL_SECONDS", 0.0)


@pytest.mark.parametrize("settings", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_training_that_was_killed_goes_on_with_the_same_bits(settings, tmp_path: Path):
    init = initial(model, 0)
    whole = train(model(), init, pictures(), settings, seed=3, score=Scores())
    path, score = tmp_path / "run.safetensors", Scores(killed_at=4)
    with pytest.raises(Killed):
        train(model(), init, pictures(), settings, seed=3, score=score, resume=path)
    again = Scores()
    found = train(model(), init, pictures(), settings, seed=3, score=again, resume=path)
    assert again.count == len(whole.history) - 2  # two passes were not done again
    assert found.scores == whole.scores
    assert [e.loss for e in found.history] == [e.loss for e in whole.history]
    assert all(torch.equal(found.params[name], whole.params[name]) for name in whole.params)


def test_a_kept_training_goes_on_too_and_leaves_nothing_unfinished(tmp_path: Path):
    init = initial(model, 0)
    alone = trained(model(), init, pictures(), SGD, seed=0, folder=None, score=Scores())
    with pytest.raises(Killed):
        trained(model(), init, pictures(), SGD, seed=0, folder=tmp_path, score=Scores(3))
    assert len(list(tmp_path.glob("*unfinished*"))) == 1
    again = Scores()
    found = trained(model(), init, pictures(), SGD, seed=0, folder=tmp_path, score=again)
    assert again.count == 3
    assert found.scores == alone.scores
    assert all(torch.equal(found.params[name], alone.params[name]) for name in alone.params)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_of_another_training_is_refused(tmp_path: Path):
    path, init = tmp_path / "run.safetensors", initial(model, 0)
    save_tensors(path, {"w": torch.zeros(1)})
    with pytest.raises(FileError, match=r"run\.safetensors: no training .* delete it"):
        train(model(), init, pictures(), SGD, seed=0, resume=path)
    save_tensors(path, {"order": torch.zeros(3)}, {"format": resuming.FORMAT})
    with pytest.raises(FileError, match=r"not of this training \(.*\); delete it"):
        train(model(), init, pictures(), SGD, seed=0, resume=path)
