"""The parameters of a training run, step by step, each read or computed on access.

A step is one entry of the trajectory, which may stand for an epoch of training: θ⁰ is the
initialization, θᵀ the trained network, T the length in steps.
"""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor

from symport.errors import TrajectoryError
from symport.io import PathLike, digest, load_tensors, open_tensors
from symport.params import (
    Params,
    check_finite,
    check_same_structure,
    interpolate,
    is_inexact,
    subtract,
)
from symport.trajectory._recorder import step_files

Schedule: TypeAlias = Literal["uniform", "cosine"]


class Trajectory(ABC):
    """A sequence of parameters θ⁰ … θᵀ: `len` is T + 1, `[t]` is θᵗ, and [−1] is θᵀ.

    Every access returns new tensors, which the caller may modify. Create one with `linear`,
    `recorded` or `open`; a subclass defines `__len__` and `_point`.

    Raises:
        TrajectoryError: On access to a step that does not exist.
        ParamsError: On access to a step that holds NaN or infinity.

    Example:
        >>> import torch
        >>> ends = {"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}
        >>> trajectory = Trajectory.linear(*ends, steps=4)
        >>> len(trajectory), trajectory.steps, trajectory[1]
        (5, 4, {'w': tensor([1.])})
    """

    @staticmethod
    def linear(
        theta_0: Params | PathLike,
        theta_T: Params | PathLike,
        steps: int,
        *,
        schedule: Schedule = "uniform",
        copy: bool = True,
    ) -> "LinearTrajectory":
        """The straight line θᵗ = (1−λₜ)θ⁰ + λₜθᵀ (Chijiwa 2024, §3.4); its two ends are stored.

        Args:
            theta_0: The initialization: tensors by name, or a file of them.
            theta_T: The trained network.
            steps: The length T, at least 1.
            schedule: `"uniform"`: λₜ = t/T. `"cosine"`: the step from t to t+1 is proportional to
                1 + cos(πt/T), as under a cosine-annealed learning rate, so it decreases.
            copy: Whether to copy the ends. Without it the given tensors are kept, which must not
                change afterwards; this saves the memory of two networks.

        Raises:
            TrajectoryError: `steps` or `schedule` is out of range, or both ends are the very same
                tensors.
            ParamsError: The ends differ in names, shapes or dtypes, or hold NaN or infinity.
            FileError: A file cannot be read.
        """
        ends = _end(theta_0), _end(theta_T)
        return LinearTrajectory(*ends, _fractions(steps, schedule), copy=copy)

    @staticmethod
    def recorded(points: Sequence[Params]) -> "Trajectory":
        """The given parameters, at least two, which are not copied.

        Raises:
            TrajectoryError: There are fewer than two, or two in a row are the very same tensors.
            ParamsError: They differ in names, shapes or dtypes, or hold NaN or infinity.
        """
        return _RecordedTrajectory(points)

    @staticmethod
    def open(folder: PathLike) -> "Trajectory":
        """The files `step-00000.safetensors` … of a folder, each read on access.

        Raises:
            FileError: The folder or a file cannot be read.
            TrajectoryError: There are fewer than two steps, or one is missing in between.
            ParamsError: The steps differ in names, shapes or dtypes.
        """
        return _FolderTrajectory(Path(folder))

    @property
    def steps(self) -> int:
        """The length T: one less than the number of points."""
        return len(self) - 1

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _point(self, step: int) -> dict[str, Tensor]:
        """New tensors for a step from 0 to T."""

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if not -len(self) <= step < len(self):
            raise TrajectoryError(f"step {step} does not exist: they run from 0 to {self.steps}")
        return self._point(step % len(self))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[step] for step in range(len(self)))

    def displacement(self, step: int) -> dict[str, Tensor]:
        """θᵗ − θ⁰, without integer tensors, which are counts.

        Example:
            >>> import torch
            >>> ends = {"w": torch.tensor([1.0])}, {"w": torch.tensor([5.0])}
            >>> Trajectory.linear(*ends, steps=4).displacement(3)
            {'w': tensor([3.])}
        """
        start, end = self[0], self[step]
        moving = [name for name, tensor in start.items() if is_inexact(tensor)]
        return subtract(
            {name: end[name] for name in moving}, {name: start[name] for name in moving}
        )

    def lazy_displacement(self, step: int) -> Params:
        """The same as `displacement`, but on a straight line each tensor is computed on access."""
        return self.displacement(step)

    def thinned(self, steps: int) -> "Trajectory":
        """A trajectory of fewer steps: evenly spaced points of this one, both ends included.

        Args:
            steps: The new number of steps, from 1 to T. If T is not a multiple of it, the nearest
                points are taken.

        Raises:
            TrajectoryError: `steps` is out of range.
        """
        if not 1 <= steps <= self.steps:
            raise TrajectoryError(
                f"cannot thin a trajectory of {self.steps} steps to {steps}: give 1 to {self.steps}"
            )
        half = steps // 2
        return _ThinnedTrajectory(
            self, tuple((k * self.steps + half) // steps for k in range(steps + 1))
        )

    def digest(self) -> str:
        """The SHA-256 of all points, by which a resumed run checks that they have not changed.

        Reads every point once.
        """
        total = hashlib.sha256()
        for point in self:
            total.update(digest(point).encode())
        return total.hexdigest()


class LinearTrajectory(Trajectory):
    """Points on the straight line between two ends, at the given fractions of the way.

    Attributes:
        fractions: λ₀ = 0 … λ_T = 1, increasing.

    Example:
        >>> import torch
        >>> ends = {"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}
        >>> LinearTrajectory(*ends, fractions=[0.0, 0.75, 1.0])[1]
        {'w': tensor([3.])}
    """

    def __init__(
        self, theta_0: Params, theta_T: Params, fractions: Sequence[float], *, copy: bool = True
    ) -> None:
        _check_points([theta_0, theta_T], ("theta_0", "theta_T"))
        self.fractions = tuple(fractions)
        self._ends = tuple(
            {name: tensor.detach().clone() if copy else tensor for name, tensor in end.items()}
            for end in (theta_0, theta_T)
        )

    def __len__(self) -> int:
        return len(self.fractions)

    def displacement(self, step: int) -> dict[str, Tensor]:
        """θᵗ − θ⁰, without integer tensors; no other network is held in memory meanwhile."""
        return dict(self.lazy_displacement(step))

    def lazy_displacement(self, step: int) -> Params:
        """θᵗ − θ⁰, each tensor computed on access and not stored."""
        if not -len(self) <= step < len(self):
            raise TrajectoryError(f"step {step} does not exist: they run from 0 to {self.steps}")
        start, end = self._ends
        return _Displacement(start, end, self._fraction(step % len(self)))

    def _point(self, step: int) -> dict[str, Tensor]:
        start, end = self._ends
        if step == self.steps:  # from the end, so that integer tensors are those of the end
            return interpolate(end, start, 0.0)
        return interpolate(start, end, self.fractions[step])

    def _fraction(self, step: int) -> float:
        return 1.0 if step == self.steps else self.fractions[step]

    def digest(self) -> str:
        """A SHA-256 of the two ends and the fractions."""
        content = [*(digest(end) for end in self._ends), *map(float.hex, self.fractions)]
        return hashlib.sha256(" ".join(content).encode()).hexdigest()


class _Displacement(Mapping[str, Tensor]):
    """θᵗ − θ⁰ on a straight line, tensor by tensor, without integer tensors."""

    def __init__(self, start: Params, end: Params, fraction: float) -> None:
        self._start, self._end, self._fraction = start, end, fraction
        self._names = [name for name, tensor in start.items() if is_inexact(tensor)]

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._start and is_inexact(self._start[str(name)])

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise KeyError(name)
        start, end = ({name: side[name]} for side in (self._start, self._end))
        return subtract(interpolate(start, end, self._fraction), start)[name]


class _RecordedTrajectory(Trajectory):
    def __init__(self, points: Sequence[Params]) -> None:
        if len(points) < 2:
            raise TrajectoryError(f"a trajectory needs at least two points, not {len(points)}")
        _check_points(points, [f"step {step}" for step in range(len(points))])
        self._points = tuple(points)

    def __len__(self) -> int:
        return len(self._points)

    def _point(self, step: int) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._points[step].items()}


class _FolderTrajectory(Trajectory):
    def __init__(self, folder: Path) -> None:
        self._files = step_files(folder)
        if len(self._files) < 2:
            raise TrajectoryError(
                f"{folder}: has {len(self._files)} files step-00000.safetensors …, and a "
                "trajectory needs at least two; write them with symport.trajectory.Recorder"
            )
        self._check_alike()

    def __len__(self) -> int:
        return len(self._files)

    def _point(self, step: int) -> dict[str, Tensor]:
        point = load_tensors(self._files[step])
        check_finite(point, str(self._files[step]))
        return point

    def _check_alike(self) -> None:
        """Compare all headers; the contents are not read."""
        outlines: list[Params] = []
        for path in self._files:
            with open_tensors(path) as tensors:
                outlines.append(tensors.outline())
        for path, outline in zip(self._files, outlines, strict=True):
            check_same_structure(outlines[0], outline, self._files[0].name, str(path))


class _ThinnedTrajectory(Trajectory):
    def __init__(self, whole: Trajectory, chosen: tuple[int, ...]) -> None:
        self._whole = whole
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def _point(self, step: int) -> dict[str, Tensor]:
        return self._whole[self._chosen[step]]


def _end(source: Params | PathLike) -> Params:
    return load_tensors(source) if isinstance(source, str | os.PathLike) else source


def _fractions(steps: int, schedule: str) -> list[float]:
    if steps < 1:
        raise TrajectoryError(f"a trajectory has at least 1 step, not {steps}")
    if schedule == "uniform":
        return [step / steps for step in range(steps + 1)]
    if schedule == "cosine":
        rates = [1 + math.cos(math.pi * step / steps) for step in range(steps)]
        reached = list(accumulate(rates, initial=0.0))
        return [distance / reached[-1] for distance in reached]
    raise TrajectoryError(f"schedule must be 'uniform' or 'cosine', not {schedule!r}")


def _check_points(points: Sequence[Params], names: Sequence[str]) -> None:
    for point, name in zip(points, names, strict=True):
        check_same_structure(points[0], point, names[0], name)
        check_finite(point, name)
    for (a, name_a), (b, name_b) in pairwise(zip(points, names, strict=True)):
        if _are_same_memory(a, b):
            raise TrajectoryError(
                f"{name_a} and {name_b} are the very same tensors; model.state_dict() does not "
                "copy, so clone what it returns before training continues"
            )


def _are_same_memory(a: Params, b: Params) -> bool:
    moving = [name for name, tensor in a.items() if is_inexact(tensor) and tensor.numel()]
    return bool(moving) and all(a[name].data_ptr() == b[name].data_ptr() for name in moving)
