"""A trajectory in a folder: numbered files, and the recorder that writes them while training."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from symport.errors import FileError, ParamsError, TrajectoryError
from symport.io import PathLike, make_folder, save_tensors
from symport.params import Params, check_finite

_STEP_FILE = re.compile(r"step-(\d{5,})\.safetensors")


class Recorder:
    """Writes a trajectory from inside a training loop, one file per step.

    Args:
        folder: Created if it does not exist.
        every: Only every so many calls write a file; the first call always does.
        resume: Continue after the last file in the folder, which is assumed to be the state from
            which training resumes.

    Raises:
        FileError: The folder or a file cannot be written.
        TrajectoryError: `every` is below 1; the folder already has steps and `resume` is not set,
            or one of them is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> model = nn.Linear(2, 1)
        >>> with TemporaryDirectory() as folder:
        ...     record = Recorder(folder)
        ...     _ = record(model)  # the initialization
        ...     for epoch in range(2):
        ...         _ = record(model)  # after an epoch of training
        ...     [path.name for path in step_files(Path(folder))][-1]
        'step-00002.safetensors'
    """

    def __init__(self, folder: PathLike, *, every: int = 1, resume: bool = False) -> None:
        if every < 1:
            raise TrajectoryError(f"every must be at least 1, not {every}")
        self.folder = Path(folder)
        self.every = every
        make_folder(self.folder)
        found = step_files(self.folder)
        if found and not resume:
            raise TrajectoryError(
                f"{folder}: already has steps up to {found[-1].name}; choose another folder, or "
                "pass resume=True to continue after it"
            )
        self._calls = (len(found) - 1) * every + 1 if found else 0

    def __call__(self, state: nn.Module | Params) -> Path | None:
        """Write the next step, unless this call is one that `every` skips.

        Args:
            state: A model, or its state dict.

        Returns:
            The file, or None if none was written.

        Raises:
            ParamsError: A value is NaN or infinite (training has diverged), or is not a tensor.
            FileError: The file cannot be written.
        """
        step, left = divmod(self._calls, self.every)
        path = None if left else self._write(step, state)
        self._calls += 1  # after the writing, so that a failed call can be repeated
        return path

    def _write(self, step: int, state: nn.Module | Params) -> Path:
        params = state.state_dict() if isinstance(state, nn.Module) else state
        _check_tensors(params)
        check_finite(params, f"step {step}")
        path = self.folder / _name(step)
        save_tensors(path, params)
        return path


def step_files(folder: Path) -> list[Path]:
    """The files of a recorded trajectory, in order; other files in the folder are ignored.

    Raises:
        FileError: The folder does not exist or cannot be read.
        TrajectoryError: The numbers of the files have a gap.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     step_files(Path(folder))
        []
    """
    try:
        found = [(match, path) for path in folder.iterdir() if (match := _number(path)) is not None]
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({error.strerror}); check the path") from error
    files = [path for _, path in sorted(found)]
    for step, path in enumerate(files):
        if path.name != _name(step):
            raise TrajectoryError(
                f"{folder}: expected {_name(step)}, found {path.name}; "
                "the steps must be numbered from 0 without a gap"
            )
    return files


def _number(path: Path) -> int | None:
    found = _STEP_FILE.fullmatch(path.name)
    return int(found[1]) if found else None


def _name(step: int) -> str:
    return f"step-{step:05d}.safetensors"


def _check_tensors(params: Params) -> None:
    for name, value in cast("Mapping[str, object]", params).items():
        if not isinstance(value, Tensor):  # get_extra_state can put anything into a state dict
            raise ParamsError(f"{name}: is of type {type(value).__name__}, not a tensor")
