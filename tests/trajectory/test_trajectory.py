import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from symport.errors import FileError, ParamsError, TrajectoryError
from symport.io import save_tensors
from symport.trajectory import Recorder, Trajectory
from symport.trajectory import _trajectory as module


def network(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(3, 2, generator=generator).to(dtype),
        "running_mean": torch.randn(3, generator=generator).to(dtype),
        "num_batches_tracked": torch.tensor(10 * seed),
    }


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and torch.equal(a[name].flatten().view(torch.uint8), b[name].flatten().view(torch.uint8))
        for name in a
    )


def record(folder: Path, points: list[dict[str, Tensor]]) -> Trajectory:
    recorder = Recorder(folder)
    for point in points:
        recorder(point)
    return Trajectory.open(folder)


def linear(tmp_path: Path) -> Trajectory:
    return Trajectory.linear(network(0), network(1), 4)


def recorded(tmp_path: Path) -> Trajectory:
    return Trajectory.recorded([network(seed) for seed in range(5)])


def opened(tmp_path: Path) -> Trajectory:
    return record(tmp_path / "run", [network(seed) for seed in range(5)])


def thinned(tmp_path: Path) -> Trajectory:
    return Trajectory.recorded([network(seed) for seed in range(9)]).thinned(4)


KINDS: list[Callable[[Path], Trajectory]] = [linear, recorded, opened, thinned]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def trajectory(request: pytest.FixtureRequest, tmp_path: Path) -> Trajectory:
    return request.param(tmp_path)


# Every kind


def test_a_trajectory_of_length_four_has_five_points(trajectory: Trajectory):
    assert (len(trajectory), trajectory.steps) == (5, 4)
    points = list(trajectory)
    assert all(same_bits(points[t], trajectory[t]) for t in range(5))
    assert same_bits(trajectory[-1], points[4])
    assert same_bits(trajectory[-5], points[0])


@pytest.mark.parametrize("step", [5, -6])
def test_a_step_beyond_the_end_is_refused(trajectory: Trajectory, step: int):
    with pytest.raises(TrajectoryError, match=f"step {step} does not exist: they run from 0 to 4"):
        trajectory[step]


def test_changing_a_point_changes_nothing_in_the_trajectory(trajectory: Trajectory):
    for t in range(5):
        before = {name: tensor.clone() for name, tensor in trajectory[t].items()}
        for tensor in trajectory[t].values():
            tensor.zero_()
        assert same_bits(trajectory[t], before)


def test_displacement_is_the_difference_to_the_start_in_weights_only(trajectory: Trajectory):
    for t in range(5):
        displacement = trajectory.displacement(t)
        assert set(displacement) == {"weight", "running_mean"}
        expected = trajectory[t]["weight"].numpy() - trajectory[0]["weight"].numpy()
        np.testing.assert_array_equal(displacement["weight"], expected)


def test_a_digest_is_stable_and_tells_contents_apart(trajectory: Trajectory):
    assert re.fullmatch("[0-9a-f]{64}", trajectory.digest())
    assert trajectory.digest() == trajectory.digest()
    assert trajectory.thinned(2).digest() != trajectory.digest()


def test_thinning_keeps_both_ends_and_takes_points_between(trajectory: Trajectory):
    thin = trajectory.thinned(2)
    assert thin.steps == 2
    assert all(same_bits(thin[k], trajectory[2 * k]) for k in range(3))
    assert same_bits(trajectory.thinned(1)[1], trajectory[4])
    assert all(same_bits(a, b) for a, b in zip(trajectory.thinned(4), trajectory, strict=True))


@pytest.mark.parametrize("steps", [0, -1, 5])
def test_thinning_to_more_than_there_is_is_refused(trajectory: Trajectory, steps: int):
    with pytest.raises(TrajectoryError, match=rf"of 4 steps to {steps}: give 1 to 4"):
        trajectory.thinned(steps)


@pytest.mark.parametrize("length", range(1, 25))
def test_thinned_points_are_the_nearest_to_even_spacing_and_never_repeat(length: int):
    whole = Trajectory.linear({"t": torch.zeros(())}, {"t": torch.tensor(float(length))}, length)
    for steps in range(1, length + 1):
        chosen = [float(point["t"]) for point in whole.thinned(steps)]
        assert chosen[0] == 0
        assert chosen[-1] == length
        assert all(a < b for a, b in pairwise(chosen))
        even = np.linspace(0, length, steps + 1)
        assert np.abs(np.array(chosen) - even).max() <= 0.5 + 1e-6


# Linear


def test_a_uniform_line_follows_the_formula():
    start, end = network(1, torch.float64), network(2, torch.float64)
    trajectory = Trajectory.linear(start, end, 7)
    assert trajectory.fractions == tuple(t / 7 for t in range(8))
    for t in range(8):
        expected = (1 - t / 7) * start["weight"].numpy() + t / 7 * end["weight"].numpy()
        np.testing.assert_allclose(trajectory[t]["weight"], expected, rtol=1e-14)


def test_a_cosine_line_steps_as_a_cosine_annealed_learning_rate():
    weight = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    reached = [0.0]
    for _ in range(9):
        reached.append(reached[-1] + float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    trajectory = Trajectory.linear(network(0), network(1), 9, schedule="cosine")
    np.testing.assert_allclose(trajectory.fractions, np.array(reached) / reached[-1], rtol=1e-12)


def test_a_cosine_line_of_two_steps_by_hand():
    # 1 + cos 0 = 2, then 1 + cos(π/2) = 1
    trajectory = Trajectory.linear(network(0), network(1), 2, schedule="cosine")
    assert trajectory.fractions == pytest.approx((0, 2 / 3, 1), abs=1e-15)


@pytest.mark.parametrize("schedule", ["uniform", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 49])
def test_fractions_grow_from_exactly_0_to_exactly_1(schedule, steps: int):
    fractions = Trajectory.linear(network(0), network(1), steps, schedule=schedule).fractions
    assert len(fractions) == steps + 1
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert all(a < b for a, b in pairwise(fractions))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_ends_of_a_line_are_the_given_bits(dtype: torch.dtype):
    start, end = network(1, dtype), network(2, dtype)
    start["weight"][0, 0] = -0.0
    end["weight"][0, 1] = -0.0
    trajectory = Trajectory.linear(start, end, 3, schedule="cosine")
    assert same_bits(trajectory[0], start)
    assert same_bits(trajectory[3], end)
    assert trajectory[1]["weight"].dtype == dtype


def test_counts_are_those_of_the_start_until_the_end():
    trajectory = Trajectory.linear(network(1), network(2), 3)
    assert [int(point["num_batches_tracked"]) for point in trajectory] == [10, 10, 10, 20]


def test_the_ends_can_be_files_of_either_format(tmp_path: Path):
    save_tensors(tmp_path / "start.safetensors", network(1))
    torch.save(network(2), tmp_path / "end.pt")
    trajectory = Trajectory.linear(tmp_path / "start.safetensors", str(tmp_path / "end.pt"), 3)
    assert trajectory.digest() == Trajectory.linear(network(1), network(2), 3).digest()


def test_a_line_does_not_follow_a_model_that_trains_on():
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    trajectory = Trajectory.linear(model.state_dict(), other.state_dict(), 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    nn.init.zeros_(model.weight)
    assert same_bits(trajectory[0], before)


def test_a_state_dict_that_was_not_cloned_before_training_is_noticed():
    model = nn.Linear(2, 2)
    start = model.state_dict()
    copy = {name: tensor.clone() for name, tensor in start.items()}
    nn.init.zeros_(model.weight)
    with pytest.raises(TrajectoryError, match=r"theta_0 and theta_T are the very same .*clone"):
        Trajectory.linear(start, model.state_dict(), 3)
    with pytest.raises(TrajectoryError, match="step 1 and step 2 are the very same"):
        Trajectory.recorded([copy, start, model.state_dict()])


def test_the_digest_of_a_line_knows_its_ends_and_its_fractions():
    lines = [
        Trajectory.linear(network(0), network(1), 4),
        Trajectory.linear(network(0), network(2), 4),
        Trajectory.linear(network(2), network(1), 4),
        Trajectory.linear(network(0), network(1), 5),
        Trajectory.linear(network(0), network(1), 4, schedule="cosine"),
    ]
    assert len({line.digest() for line in lines}) == len(lines)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_line_has_at_least_one_step(steps: int):
    with pytest.raises(TrajectoryError, match=f"at least 1 step, not {steps}"):
        Trajectory.linear(network(0), network(1), steps)


def test_an_unknown_schedule_is_refused():
    schedule: Any = "linear"
    with pytest.raises(TrajectoryError, match="must be 'uniform' or 'cosine', not 'linear'"):
        Trajectory.linear(network(0), network(1), 3, schedule=schedule)


def test_ends_that_do_not_belong_together_are_refused():
    wider = {**network(1), "weight": torch.zeros(3, 5)}
    with pytest.raises(ParamsError, match=r"weight: its shape is \(3, 2\) in theta_0, \(3, 5\) in"):
        Trajectory.linear(network(0), wider, 3)
    with pytest.raises(ParamsError, match="theta_T lacks running_mean, num_batches_tracked, which"):
        Trajectory.linear(network(0), {"weight": network(1)["weight"]}, 3)
    with pytest.raises(ParamsError, match=r"weight: its dtype is .*float32 .*float64 in theta_T"):
        Trajectory.linear(network(0), network(1, torch.float64), 3)


def test_a_diverged_end_is_refused():
    end = network(1)
    end["weight"][2, 1] = math.nan
    with pytest.raises(ParamsError, match="weight: 1 of 6 values of theta_T are NaN or inf"):
        Trajectory.linear(network(0), end, 3)


def test_a_missing_file_is_named():
    with pytest.raises(FileError, match=r"nowhere\.safetensors: cannot be read"):
        Trajectory.linear(network(0), "nowhere.safetensors", 3)


# Recorded


def test_recorded_points_come_back_bit_by_bit():
    points = [network(seed, torch.bfloat16) for seed in range(3)]
    trajectory = Trajectory.recorded(points)
    assert all(same_bits(a, b) for a, b in zip(trajectory, points, strict=True))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_points_are_no_trajectory(count: int, tmp_path: Path):
    with pytest.raises(TrajectoryError, match=f"at least two points, not {count}"):
        Trajectory.recorded([network(0)][:count])
    with pytest.raises(TrajectoryError, match=rf"run: has {count} files .* at least two; write"):
        record(tmp_path / "run", [network(0)][:count])


def test_recorded_points_that_do_not_belong_together_are_refused():
    with pytest.raises(ParamsError, match=r"weight: its shape is \(3, 2\) in step 0, \(1,\) in st"):
        Trajectory.recorded([network(0), network(1), {**network(2), "weight": torch.zeros(1)}])
    diverged = {**network(2), "weight": torch.full((3, 2), math.inf)}
    with pytest.raises(ParamsError, match="weight: 6 of 6 values of step 1 are NaN or inf"):
        Trajectory.recorded([network(0), diverged])


# A folder


def test_a_folder_gives_what_was_recorded_bit_by_bit(tmp_path: Path):
    points = [network(seed) for seed in range(3)]
    trajectory = record(tmp_path, points)
    assert all(same_bits(a, b) for a, b in zip(trajectory, points, strict=True))
    assert trajectory.digest() == Trajectory.recorded(points).digest()
    assert Trajectory.open(str(tmp_path)).digest() == trajectory.digest()


def test_a_folder_is_read_one_step_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    load = module.load_tensors
    monkeypatch.setattr(module, "load_tensors", lambda path: read.append(path.name) or load(path))
    trajectory = record(tmp_path, [network(seed) for seed in range(3)])
    assert read == []
    trajectory[1]
    assert read == ["step-00001.safetensors"]


def test_other_files_in_the_folder_are_left_aside(tmp_path: Path):
    for name in ("README.md", "step-00007.json", "last.safetensors", ".step-00002.safetensors.tmp"):
        (tmp_path / name).write_text("not a step")
    assert record(tmp_path, [network(0), network(1)]).steps == 1


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_step_is_named(tmp_path: Path, missing: int):
    record(tmp_path, [network(seed) for seed in range(4)])
    (tmp_path / f"step-{missing:05d}.safetensors").unlink()
    with pytest.raises(
        TrajectoryError,
        match=rf"expected step-0000{missing}\.safetensors, found step-0000{missing + 1}\.saf",
    ):
        Trajectory.open(tmp_path)


def test_steps_of_other_shapes_are_noticed_before_any_is_read(tmp_path: Path):
    record(tmp_path, [network(0), network(1)])
    save_tensors(tmp_path / "step-00001.safetensors", {**network(1), "weight": torch.zeros(1)})
    with pytest.raises(
        ParamsError, match=r"weight: its shape is \(3, 2\) in step-00000\.saf.*\(1,\) in .*00001"
    ):
        Trajectory.open(tmp_path)


def test_a_step_that_is_cut_short_is_named(tmp_path: Path):
    record(tmp_path, [network(0), network(1)])
    path = tmp_path / "step-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileError, match=r"step-00001\.safetensors: cut short"):
        Trajectory.open(tmp_path)


def test_a_diverged_step_is_noticed_when_read(tmp_path: Path):
    record(tmp_path, [network(0), network(1)])
    diverged = {**network(1), "running_mean": torch.full((3,), math.nan)}
    save_tensors(tmp_path / "step-00001.safetensors", diverged)
    trajectory = Trajectory.open(tmp_path)
    with pytest.raises(ParamsError, match=r"running_mean: 3 of 3 values of .*00001\.safetensors"):
        trajectory[1]


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(FileError, match=r"nowhere: cannot be read .*No such.*check the path"):
        Trajectory.open(tmp_path / "nowhere")
