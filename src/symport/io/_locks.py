"""Locks on files and folders, so that two processes do not work in one folder."""

import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from symport.errors import FileError
from symport.io._files import PathLike, make_folder


def take_lock(path: PathLike) -> int:
    """Lock a file or folder against other processes, until the descriptor is closed.

    The system closes it when the process ends, for whatever reason.

    Returns:
        The file descriptor, for `os.close`.

    Raises:
        FileError: Another process holds the lock, or the file cannot be opened.

    Example:
        >>> descriptor = take_lock(folder)
        >>> take_lock(folder)
        Traceback (most recent call last):
            ...
        symport.errors.FileError: ...: another process is at work there; wait for it, or ...
        >>> os.close(descriptor)
    """
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError as error:
        raise FileError(f"{path}: cannot be opened ({error.strerror})") from error
    if sys.platform == "win32":  # it has no such locks, so a second process is not noticed
        return descriptor
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            os.close(descriptor)
            raise FileError(
                f"{path}: another process is at work there; wait for it, or choose another folder"
            ) from error
        # Some network drives have no locks. A single process does not need one.
    return descriptor


@contextmanager
def locked(folder: PathLike) -> Generator[Path]:
    """Create a folder and hold a lock on it, so that no other process works in it.

    A new folder that is still empty at the end is removed.

    Raises:
        FileError: It cannot be created, or another process holds the lock.

    Example:
        >>> with locked(folder / "run") as run:
        ...     (run / "note.txt").touch()
        >>> (folder / "run").is_dir()
        True
    """
    is_new = not Path(folder).exists()
    descriptor = take_lock(make_folder(folder))
    try:
        yield Path(folder)
    finally:
        os.close(descriptor)
        if is_new:
            with suppress(OSError):  # it is not empty
                Path(folder).rmdir()
