"""The folder in which a port works: locked while it runs, and renamed to the result at the end.

A port to `out` works in `out.work` and renames its result to `out` when that is complete. The
folder has a marker file that only a port writes and that it locks: the system frees the lock when
the process ends, in whatever way. Only files that a port made are deleted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

from symport.errors import FileError
from symport.io import take_lock, write_text

MARKER = "symport.lock"
CLAIM = "port.json"
WORDS = "The unfinished work of a symport port. The same command goes on from here.\n"
SMALL = 64 * 2**20  # bytes: up to here by content, beyond by size and time of change
ATTEMPTS = 10  # each fails only if another process starts or ends at the same moment


class Workplace:
    """The work folder of a port, `<out>.work`; its result is renamed to `<out>` at the end.

    A context manager: inside, no other process can work there. On exit a folder with nothing to
    resume from is removed.

    Args:
        out: The folder that the result will have. Links are followed.

    Attributes:
        out: The absolute path.
        root: `<out>.work`.
        folder: For intermediate results.
        result: For what will become `out`.

    Raises:
        FileError: `out` exists and is not empty, or cannot be replaced; the folder beside it is
            not a port's, cannot be made, or another process works there.
    """

    def __init__(self, out: Path) -> None:
        self.out = settled(out)
        self.root = self.out.with_name(f"{self.out.name}.work")
        self.folder = self.root / "journal"
        self.result = self.root / "result"
        self._parents: list[Path] = []
        self._lock: int | None = None

    def __enter__(self) -> "Workplace":
        self._parents = [p for p in self.out.parents if not p.exists()]
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._taken()
            self.folder.mkdir(exist_ok=True)
        except FileError:
            raise
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise FileError(f"{self.root}: cannot be made ({why}); choose another --out") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # what cannot be removed is left for the next port
            if self.root.is_dir() and not any(map(_filled, (self.folder, self.result))):
                self._remove()
                for parent in self._parents:
                    parent.rmdir()
        if self._lock is not None:
            os.close(self._lock)

    def claim(self, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        """Record the settings and inputs of this port; the same port may resume.

        Args:
            settings: Of the port, as JSON can hold them.
            inputs: The `fingerprint` of each file.

        Raises:
            FileError: The folder holds work of a port with other settings or inputs.
        """
        path = self.root / CLAIM
        claim = {"settings": settings, "inputs": inputs}
        text = json.dumps(claim, indent=1, sort_keys=True) + "\n"
        try:
            found = path.read_text(encoding="utf-8") if path.exists() else text
            odd = [] if found == text else list(_differences(json.loads(found), claim))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FileError(f"{path}: cannot be read ({error}); remove {self.root}") from error
        if found != text:
            raise FileError(
                f"{self.root}: holds an unfinished port with other settings or inputs: "
                f"{', '.join(odd[:5])}; go on with those, remove it, or choose another --out"
            )
        write_text(path, text)

    def begin_result(self) -> Path:
        """An empty folder for the result: an incomplete one of an interrupted port is deleted.

        Raises:
            FileError: It cannot be made.
        """
        try:
            if self.result.exists():
                shutil.rmtree(self.result)
            self.result.mkdir()
        except OSError as error:
            raise FileError(f"{self.result}: cannot be made ({error})") from error
        return self.result

    def finish(self) -> None:
        """Rename the result to `out`, and remove the rest of the work folder.

        Raises:
            FileError: The result cannot be moved.
        """
        try:
            if self.out.is_dir():
                self.out.rmdir()
            self.result.rename(self.out)
            self._remove()
        except OSError as error:
            place = self.result if self.result.exists() else self.out
            raise FileError(
                f"{self.out}: cannot be finished ({error}); the whole result is in {place}"
            ) from error

    def _taken(self) -> int:
        """The lock on the marker, made if there is no such folder yet."""
        for _ in range(ATTEMPTS):
            refuse_existing(self.out)
            lock = self._joined() if os.path.lexists(self.root) else self._made()
            if lock is not None:
                return lock
        raise FileError(f"{self.root}: other processes work there; choose another --out")

    def _made(self) -> int | None:
        """Make the folder in one step, with its marker already locked; None if it exists."""
        fresh = Path(mkdtemp(prefix=f".{self.root.name}-", dir=self.root.parent))
        marker = fresh / MARKER
        marker.write_text(WORDS, encoding="utf-8")
        lock = take_lock(marker)
        try:
            fresh.rename(self.root)
        except OSError:  # another process was faster
            marker.unlink()
            fresh.rmdir()
            os.close(lock)
            if not os.path.lexists(self.root):
                raise
            return None
        return lock

    def _joined(self) -> int | None:
        """Resume in an existing folder, if a port made it; None if it has just been removed."""
        marker = self.root / MARKER
        if self.root.is_symlink() or marker.is_symlink() or not marker.is_file():
            if not os.path.lexists(self.root):
                return None
            raise FileError(
                f"{self.root}: a port to {self.out} works in this folder, but it exists and no "
                "port made it; move it away, or choose another --out"
            )
        try:
            lock = take_lock(marker)
        except FileError as error:
            raise FileError(
                f"{self.root}: another process is porting to {self.out} right now; wait for it, or "
                "choose another --out"
            ) from error
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock), marker.stat()):
                return lock
        os.close(lock)  # of a folder that was removed in between
        return None

    def _remove(self) -> None:
        """Remove the folder; only its own files if there are others."""
        own = {self.folder, self.result, self.root / CLAIM, self.root / MARKER}
        if set(self.root.iterdir()) - own:
            for folder in (self.folder, self.result):
                shutil.rmtree(folder, ignore_errors=True)
            return
        gone = self.root.with_name(f".{self.root.name}-{os.getpid()}-gone")
        self.root.rename(gone)
        shutil.rmtree(gone)


def settled(out: Path) -> Path:
    """The absolute path of a result's folder, links followed.

    Raises:
        FileError: It exists and is not empty, or cannot be replaced: the current folder, or a mount
            point.
    """
    try:
        path = out.expanduser().resolve()
        refuse_existing(path)
        mounted = path.is_mount()
    except FileError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise FileError(f"{out}: cannot be a folder ({error}); choose another --out") from error
    if path == Path.cwd():
        raise FileError(f"{out}: is the folder that you are in; name a new one: --out {path}/port")
    if mounted:
        raise FileError(f"{out}: a disk is mounted there; name a new folder: --out {path}/port")
    return path


def refuse_existing(out: Path) -> None:
    """Raise FileError if a result would overwrite anything."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileError(f"{out}: exists already; remove it or choose another --out")


def fingerprint(path: Path) -> str:
    """A hash that changes with a file, or a folder of files.

    Raises:
        FileError: It cannot be read.
    """
    try:
        if path.is_dir():
            inside = [(str(p.relative_to(path)), p.stat()) for p in sorted(path.rglob("*"))]
            content = json.dumps([(n, s.st_size, s.st_mtime_ns) for n, s in inside]).encode()
        elif path.stat().st_size > SMALL or path.suffix == ".safetensors":
            content = json.dumps([path.stat().st_size, path.stat().st_mtime_ns]).encode()
        else:
            content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return hashlib.sha256(content).hexdigest()


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _differences(found: Any, given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """In which settings and inputs two claims differ."""
    before: dict[str, dict[str, Any]] = dict(found)
    for part, values in given.items():
        others = dict(before.get(part, {}))
        for key in sorted(values.keys() | others.keys()):
            if values.get(key) != others.get(key):
                was = f"{key} was {others.get(key)!r}, not {values.get(key)!r}"
                yield f"{key} has changed" if part == "inputs" else was
