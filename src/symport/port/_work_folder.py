"""The folder in which a port works: ours alone, locked while we run, and a result in the end.

A port to `out` works in `out.work` and renames its result to `out` when that is whole. The folder
carries a marker that only a port writes, which is also what it locks: the system frees the lock
with the process, however that ends. Nothing is ever deleted that a port did not make.
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
SMALL = 64 * 2**20  # bytes: such a file is told apart by its content, a larger one by its age
ATTEMPTS = 10  # each lost to another process that began or ended at this very moment


class Workplace:
    """Where a port works until its result is whole: `<out>.work`, renamed to `<out>` at the end.

    A context manager: inside, no other process can work there. What holds nothing to go on from is
    removed on leaving.

    Args:
        out: The folder that the result will have. Links are followed.

    Attributes:
        out: In full.
        root: `<out>.work`.
        folder: For the journals of work under way.
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
        with suppress(OSError):  # what cannot be removed stays, and is ours the next time
            if self.root.is_dir() and not any(map(_filled, (self.folder, self.result))):
                self._remove()
                for parent in self._parents:
                    parent.rmdir()
        if self._lock is not None:
            os.close(self._lock)

    def claim(self, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        """Say what is done here; the same may go on.

        Args:
            settings: Of the port, as JSON can hold them.
            inputs: The `fingerprint` of each file.

        Raises:
            FileError: The folder holds work of another one; the message says what differs.
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
        """An empty folder for the result: what an interruption left half written is made again.

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
        """Give the result its name, and remove what only going on would have needed.

        Raises:
            FileError: The result cannot be moved; it stays where it is.
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
        """A new folder appears with its marker in it, already locked."""
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
        """Go on in a folder that is there, if a port made it; None if it has just gone."""
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
        """The folder with all that is ours; what else somebody put there stays, and so it."""
        own = {self.folder, self.result, self.root / CLAIM, self.root / MARKER}
        if set(self.root.iterdir()) - own:
            for folder in (self.folder, self.result):
                shutil.rmtree(folder, ignore_errors=True)
            return
        gone = self.root.with_name(f".{self.root.name}-{os.getpid()}-gone")
        self.root.rename(gone)
        shutil.rmtree(gone)


def settled(out: Path) -> Path:
    """The folder of a result in full, links followed.

    Raises:
        FileError: It exists and is not empty, or is one that cannot be replaced by another: the
            one that we are in, or a disk's own.
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
    """What tells the content of a file, or of a folder of files, from another's.

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
