"""The folder in which a port works: ours alone, for one process, and nothing else is touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cases import present

from symport.errors import FileError
from symport.port._work_folder import MARKER, Workplace, fingerprint, settled

CLAIM = ({"steps": 3}, {"a.safetensors": "1"})


def finished(out: Path) -> None:
    with Workplace(out) as place:
        place.claim(*CLAIM)
        (place.begin_result() / "model").write_text("whole")
        (place.folder / "folds").mkdir(exist_ok=True)
        place.finish()


def unfinished(out: Path) -> Path:
    with Workplace(out) as place:
        place.claim(*CLAIM)
        (place.folder / "folds").mkdir()
    return place.root


def everything(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_result_gets_its_name_and_nothing_stays_beside_it(tmp_path):
    finished(tmp_path / "new" / "out")
    assert everything(tmp_path) == {"new": None, "new/out": None, "new/out/model": "whole"}


def test_work_that_was_interrupted_is_found_again(tmp_path):
    root = unfinished(tmp_path / "out")
    (root / "result").mkdir()
    (root / "result" / "half").write_text("")
    with Workplace(tmp_path / "out") as place:
        place.claim(*CLAIM)
        assert (place.folder / "folds").is_dir()
        assert not list(place.begin_result().iterdir())
        place.finish()
    assert everything(tmp_path) == {"out": None}


def test_a_port_that_is_refused_leaves_nothing(tmp_path):
    def refused() -> None:
        with Workplace(tmp_path / "a" / "b" / "out") as place:
            place.claim(*CLAIM)
            place.begin_result()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refused()
    assert everything(tmp_path) == {}


def test_what_differs_from_the_unfinished_work_is_named(tmp_path):
    root = unfinished(tmp_path / "out")
    others = [
        ({"steps": 4}, CLAIM[1], "steps was 3, not 4"),
        (CLAIM[0], {"a.safetensors": "2"}, "a.safetensors has changed"),
        ({**CLAIM[0], "seed": 1}, CLAIM[1], "seed was None, not 1"),
    ]
    for settings, inputs, message in others:
        with (
            pytest.raises(FileError, match=f"unfinished port .*{message}"),
            Workplace(tmp_path / "out") as place,
        ):
            place.claim(settings, inputs)
    for content in (b"\xff", b"[1", b"[" * 100_000, b'{"settings": [1]}', b"3"):
        (root / "port.json").write_bytes(content)
        with (
            pytest.raises(FileError, match=r"port\.json: cannot be read.*remove"),
            Workplace(tmp_path / "out") as place,
        ):
            place.claim(*CLAIM)
    assert (root / "journal" / "folds").is_dir()


@pytest.mark.parametrize("kind", ["full", "empty", "file", "link", "linked marker"])
def test_a_folder_that_no_port_made_is_left_as_it_is(tmp_path, kind):
    root = tmp_path / "out.work"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / MARKER).write_text("mine")
    if kind == "file":
        root.write_text("mine")
    elif kind == "link":
        root.symlink_to(elsewhere)
    else:
        root.mkdir()
    if kind == "full":
        (root / "notes.txt").write_text("precious")
        (root / "port.json").write_text("{}")
    if kind == "linked marker":
        (root / MARKER).symlink_to(elsewhere / MARKER)
    before = everything(tmp_path)
    with pytest.raises(FileError, match=r"out\.work: .* no port made it; move it away"):
        Workplace(tmp_path / "out").__enter__()
    assert everything(tmp_path) == before


def test_what_somebody_put_beside_our_work_stays(tmp_path):
    root = unfinished(tmp_path / "out")
    (root / "notes.txt").write_text("precious")
    finished(tmp_path / "out")
    assert (tmp_path / "out" / "model").read_text() == "whole"
    assert (root / "notes.txt").read_text() == "precious"
    assert not (root / "journal").exists()


def test_a_second_port_to_the_same_folder_is_refused_and_the_first_is_unharmed(tmp_path):
    out = tmp_path / "out"
    with Workplace(out) as first:
        first.claim(*CLAIM)
        (first.begin_result() / "model").write_text("whole")
        before = everything(tmp_path)
        with pytest.raises(FileError, match=r"another process is porting to .*out right now"):
            Workplace(out).__enter__()
        assert everything(tmp_path) == before
        first.finish()
        with pytest.raises(FileError, match="exists already"):
            Workplace(out).__enter__()
    assert everything(tmp_path) == {"out": None, "out/model": "whole"}


def test_a_port_that_stands_still_keeps_its_place_and_one_that_was_killed_gives_it_up(tmp_path):
    program = (
        "import sys; from pathlib import Path; from symport.port._work_folder import Workplace\n"
        "with Workplace(Path(sys.argv[1])) as place:\n"
        "    place.claim({'steps': 3}, {'a.safetensors': '1'})\n"
        "    (place.folder / 'folds').mkdir()\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", program, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert present(first.stdout).readline() == "ready\n"
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(FileError, match="another process"):
            Workplace(out).__enter__()
        first.send_signal(signal.SIGCONT)
        with pytest.raises(FileError, match="another process"):
            Workplace(out).__enter__()
        first.kill()
    with Workplace(out) as place:
        place.claim(*CLAIM)
        assert (place.folder / "folds").is_dir()


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "a").symlink_to("real")
    (tmp_path / "b").symlink_to(tmp_path / "missing")
    for name in ("a", "b"):
        finished(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name / "model").read_text() == "whole"
    assert settled(tmp_path / "c" / ".." / "c//") == tmp_path / "c"


def test_an_empty_folder_is_filled_and_the_home_folder_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").mkdir()
    finished(Path("~/out"))
    assert everything(tmp_path) == {"out": None, "out/model": "whole"}


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "is the folder that you are in"),
        ("", "is the folder that you are in"),
        ("..", "exists already"),
        ("/", "exists already"),
        ("../file", "exists already"),
        ("../file/x", "cannot be"),
        ("../round", "cannot be a folder"),
        ("x" * 300, "cannot be"),
        ("x" * 253, "cannot be"),
        ("a\0b", "cannot be"),
        ("~nobody-of-this-name/x", "cannot be"),
    ],
)
def test_what_cannot_become_a_result_is_refused_at_the_start(tmp_path, monkeypatch, out, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = everything(tmp_path)
    with pytest.raises(FileError, match=message):
        Workplace(Path(out)).__enter__()
    assert everything(tmp_path) == before


def test_a_mounted_disk_cannot_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    (tmp_path / "disk").mkdir()
    with pytest.raises(FileError, match="a disk is mounted there"):
        Workplace(tmp_path / "disk")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_parent_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="cannot be made"):
        Workplace(tmp_path / "out").__enter__()


def test_files_are_told_apart_by_content_and_large_ones_by_age(tmp_path):
    small, large, folder = tmp_path / "x.jsonl", tmp_path / "x.safetensors", tmp_path / "images"
    folder.mkdir()
    for path in (small, large, folder / "a.png"):
        path.write_text("abc")
    before = [fingerprint(path) for path in (small, large, folder)]
    for path in (small, large, folder / "a.png"):
        os.utime(path, (1, 1))
    after = [fingerprint(path) for path in (small, large, folder)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False]
    small.write_text("abd")
    assert fingerprint(small) != before[0]
    with pytest.raises(FileError, match="cannot be read"):
        fingerprint(tmp_path / "none")
