from pathlib import Path

import pytest
import torch

from symport.errors import FileError
from symport.io import save_tensors
from symport_recipes.data import Examples
from symport_recipes.networks import initial, mlp
from symport_recipes.training import TrainSettings, recorded, train, trained

SETTINGS = TrainSettings(epochs=3, batch_size=8, lr=0.1)


def model():
    return mlp([4, 5, 3])


def examples() -> Examples:
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    return Examples(inputs, inputs[:, :3].argmax(1))


def get(folder: Path | None, *, seed: int = 0, settings: TrainSettings = SETTINGS, score=None):
    init = initial(model, 0)
    return trained(model(), init, examples(), settings, seed=seed, folder=folder, score=score)


def test_a_training_that_was_done_is_read_with_the_same_bits(tmp_path):
    first = get(tmp_path)
    (path,) = tmp_path.iterdir()
    stamp = path.stat().st_mtime_ns
    second = get(tmp_path)
    assert path.stat().st_mtime_ns == stamp
    assert all(torch.equal(first.params[name], second.params[name]) for name in first.params)
    assert second.elapsed_seconds == pytest.approx(first.elapsed_seconds, abs=0.1)


def test_seed_and_settings_and_data_are_all_part_of_the_key(tmp_path):
    get(tmp_path)
    get(tmp_path, seed=1)
    get(tmp_path, settings=TrainSettings(epochs=3, batch_size=8, lr=0.2))
    other = Examples(examples().inputs + 1, examples().labels)
    trained(model(), initial(model, 0), other, SETTINGS, seed=0, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_scores_are_of_the_start_and_of_each_pass_and_are_kept(tmp_path):
    seen = []
    get(tmp_path)  # without scores: must be done again
    first = get(tmp_path, score=lambda params: seen.append(params) or float(len(seen)))
    assert first.scores == (1.0, 2.0, 3.0, 4.0)
    assert torch.equal(seen[0]["fc1.weight"], initial(model, 0)["fc1.weight"])
    assert torch.equal(seen[-1]["fc1.weight"], first.params["fc1.weight"])
    assert get(tmp_path, score=lambda _: pytest.fail("trained again")).scores == first.scores


@pytest.mark.parametrize("kept", [True, False])
def test_a_recorded_training_holds_every_pass(kept, tmp_path):
    folder = tmp_path if kept else None
    init, points = initial(model, 0), []
    train(model(), init, examples(), SETTINGS, seed=0, recorder=points.append)
    for _ in range(2):  # trained, then read
        found = recorded(model(), init, examples(), SETTINGS, seed=0, folder=folder)
        assert len(found) == 4
        for step, expected in enumerate(points):
            assert all(torch.equal(found[step][name], expected[name]) for name in expected)
    if kept:
        assert torch.equal(get(tmp_path).params["fc1.bias"], points[-1]["fc1.bias"])


def test_a_recording_that_was_cut_short_is_done_again(tmp_path):
    init = initial(model, 0)
    whole = recorded(model(), init, examples(), SETTINGS, seed=0, folder=tmp_path)
    (steps,) = tmp_path.glob("*-steps")
    steps.rename(steps.with_name(steps.name.replace("-steps", "-unfinished")))
    again = recorded(model(), init, examples(), SETTINGS, seed=0, folder=tmp_path)
    assert len(again) == len(whole)
    assert not list(tmp_path.glob("*-unfinished"))


def test_a_file_of_another_program_is_refused(tmp_path):
    get(tmp_path)
    (path,) = tmp_path.iterdir()
    save_tensors(path, {"w": torch.zeros(1)})
    with pytest.raises(FileError, match="delete it to train anew"):
        get(tmp_path)
