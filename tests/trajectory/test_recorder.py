import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from symport.errors import FileError, ParamsError, TrajectoryError
from symport.io import load_tensors
from symport.trajectory import Recorder, step_files
from symport.trajectory import _recorder as module


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state(value: float) -> dict[str, Tensor]:
    return {"w": torch.tensor([value])}


def test_a_training_run_is_recorded_step_by_step(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(tmp_path / "runs" / "source")
    seen: list[dict[str, Tensor]] = []
    for _ in range(3):
        path = recorder(model)
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert path is not None
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
    files = step_files(tmp_path / "runs" / "source")
    assert [path.name for path in files] == [f"step-0000{t}.safetensors" for t in range(3)]
    for path, expected in zip(files, seen, strict=True):
        found = load_tensors(path)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_one_call_in_three_is_kept_beginning_with_the_first(tmp_path: Path):
    recorder = Recorder(tmp_path, every=3)
    written = [recorder(state(call)) is not None for call in range(8)]
    assert written == [True, False, False, True, False, False, True, False]
    assert [load_tensors(path)["w"].item() for path in step_files(tmp_path)] == [0, 3, 6]


def test_recording_goes_on_after_the_last_file(tmp_path: Path):
    first = Recorder(tmp_path, every=2)
    for call in range(3):
        first(state(call))
    second = Recorder(tmp_path, every=2, resume=True)
    for call in range(3, 7):
        second(state(call))
    assert [load_tensors(path)["w"].item() for path in step_files(tmp_path)] == [0, 2, 4, 6]


def test_resuming_in_an_empty_folder_begins_at_the_start(tmp_path: Path):
    recorder = Recorder(tmp_path, resume=True)
    assert recorder(state(0)) == tmp_path / "step-00000.safetensors"


def test_a_folder_with_steps_is_not_overwritten(tmp_path: Path):
    Recorder(tmp_path)(state(0))
    with pytest.raises(TrajectoryError, match=r"already has steps up to step-00000\.saf.*; choose"):
        Recorder(tmp_path)


def test_a_gap_is_noticed_on_resuming(tmp_path: Path):
    recorder = Recorder(tmp_path)
    for call in range(3):
        recorder(state(call))
    (tmp_path / "step-00001.safetensors").unlink()
    with pytest.raises(
        TrajectoryError, match=r"expected step-00001\.safetensors, found step-00002"
    ):
        Recorder(tmp_path, resume=True)


def test_a_call_that_failed_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recorder = Recorder(tmp_path)
    recorder(state(0))

    def full(*_: object) -> None:
        raise FileError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_tensors", full)
        with pytest.raises(FileError, match="no room"):
            recorder(state(1))
    recorder(state(2))
    assert names_in(tmp_path) == ["step-00000.safetensors", "step-00001.safetensors"]
    assert load_tensors(tmp_path / "step-00001.safetensors")["w"].item() == 2


def test_diverged_training_is_not_recorded(tmp_path: Path):
    recorder = Recorder(tmp_path)
    recorder(state(0))
    with pytest.raises(ParamsError, match="w: 1 of 1 values of step 1 are NaN or inf"):
        recorder(state(math.nan))
    assert names_in(tmp_path) == ["step-00000.safetensors"]


class Odd(nn.Module):
    def get_extra_state(self) -> object:
        return {"version": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def test_state_that_is_no_tensor_is_named(tmp_path: Path):
    with pytest.raises(ParamsError, match="_extra_state: is of type dict, not a tensor"):
        Recorder(tmp_path)(Odd())


@pytest.mark.parametrize("every", [0, -2])
def test_every_is_at_least_one(tmp_path: Path, every: int):
    with pytest.raises(TrajectoryError, match=f"every must be at least 1, not {every}"):
        Recorder(tmp_path, every=every)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file: cannot make this folder"):
        Recorder(tmp_path / "file")
