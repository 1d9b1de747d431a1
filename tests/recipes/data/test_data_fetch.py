import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tinyfiles import real_data, tar_bytes, write_batch, write_mnist

from symport.errors import DataError, FileError
from symport_recipes.data import DOWNLOADS, load
from symport_recipes.data import fetch as fetched
from symport_recipes.data._fetch import Download


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let a data set be files that this machine serves."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()

        def as_data(name: str, *files: Path, md5: str | None = None) -> None:
            base = f"http://127.0.0.1:{server.server_port}"
            sums = [md5 or hashlib.md5(file.read_bytes()).hexdigest() for file in files]
            downloads = tuple(
                Download(f"{base}/{file.relative_to(tmp_path)}", s)
                for file, s in zip(files, sums, strict=True)
            )
            monkeypatch.setitem(DOWNLOADS, name, downloads)

        yield as_data
        server.shutdown()


def test_files_are_fetched_and_load(tmp_path: Path, serve):
    origin, data = tmp_path / "origin", tmp_path / "data"
    origin.mkdir()
    write_mnist(origin, ending=".gz")
    serve("mnist", *sorted(origin.iterdir()))
    folder = fetched("mnist", data)
    assert load("mnist", folder).train_labels.tolist() == [3, 1, 4, 1, 9]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in origin.iterdir()
    )


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "one").write_bytes(b"here")
    monkeypatch.setitem(DOWNLOADS, "mnist", (Download("file:///nowhere/one", "0"),))
    assert (fetched("mnist", tmp_path) / "one").read_bytes() == b"here"


def test_an_archive_is_unpacked_and_not_kept(tmp_path: Path, serve):
    folder = "cifar-100-python"
    write_batch(tmp_path / "batch", "fine_labels", [8, 2])
    batch = (tmp_path / "batch").read_bytes()
    archive = tmp_path / "all.tar.gz"
    archive.write_bytes(tar_bytes({f"{folder}/train": batch, f"{folder}/test": batch}, "w:gz"))
    serve("cifar100", archive)
    assert load("cifar100", fetched("cifar100", tmp_path / "data")).classes == 2
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder]


def test_a_wrong_file_is_refused_and_not_kept(tmp_path: Path, serve):
    file = tmp_path / "a.gz"
    file.write_bytes(b"truncated")
    serve("mnist", file, md5="0" * 32)
    with pytest.raises(FileError, match=r"a\.gz: cannot be fetched .*hash .*000"):
        fetched("mnist", tmp_path / "data")
    assert not list((tmp_path / "data" / "mnist").iterdir())


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.gz", "http://nowhere.invalid/a.gz"])
def test_without_a_network_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,nowhere.invalid")
    monkeypatch.setitem(DOWNLOADS, "mnist", (Download(url, "0"),))
    with pytest.raises(FileError, match=r"a\.gz: cannot be fetched .* Or put a\.gz into .*mnist"):
        fetched("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "what"), [("imagenet", "ILSVRC2012_img_train.tar"), ("cars", "cars_test_annos")]
)
def test_what_nobody_may_fetch_is_said_with_its_place(tmp_path: Path, name: str, what: str):
    with pytest.raises(FileError, match=rf"{name} cannot be fetched: .*{what}.* into {tmp_path}"):
        fetched(name, tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path):
    with pytest.raises(DataError, match="'svhn' cannot be fetched; choose from mnist"):
        fetched("svhn", tmp_path)


def test_the_sums_of_mnist_are_those_of_the_official_files():
    folder = real_data("mnist")
    for download in DOWNLOADS["mnist"]:
        if not (folder / download.name).is_file():
            pytest.skip("the official files are unpacked here")
        assert hashlib.md5((folder / download.name).read_bytes()).hexdigest() == download.md5
