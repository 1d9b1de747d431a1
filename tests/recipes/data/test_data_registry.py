from pathlib import Path

import pytest
from tinyfiles import write_batch, write_mnist

from symport.errors import DataError, FileError
from symport_recipes.data import _places as places
from symport_recipes.data import cache_folder, find_data, load, load_lazy


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside a user's cache that is empty."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.delenv("SYMPORT_DATA", raising=False)
    monkeypatch.setattr(places, "cache_folder", lambda kind: tmp_path / "cache" / kind)
    return work


def test_the_named_folder_comes_first(elsewhere: Path, monkeypatch: pytest.MonkeyPatch):
    cache = elsewhere.parent / "cache" / "data"
    for base in (elsewhere, cache):
        (base / "mnist").mkdir(parents=True)
    assert find_data("mnist") == cache / "mnist"
    monkeypatch.setenv("SYMPORT_DATA", str(elsewhere))
    assert find_data("mnist") == elsewhere / "mnist"


def test_what_the_named_folder_lacks_may_lie_in_the_cache(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
):
    cached = elsewhere.parent / "cache" / "data" / "cifar-10-batches-py"
    cached.mkdir(parents=True)
    monkeypatch.setenv("SYMPORT_DATA", str(elsewhere))
    assert find_data("cifar10") == cached


def test_an_absent_data_set_is_said_with_every_place_tried(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYMPORT_DATA", str(elsewhere))
    with pytest.raises(FileError, match="cifar100: no folder 'cifar-100-python' found") as caught:
        find_data("cifar100")
    message = str(caught.value)
    assert str(elsewhere / "cifar-100-python") in message
    assert str(elsewhere.parent / "cache" / "data" / "cifar-100-python") in message
    assert "set SYMPORT_DATA to the folder above it" in message


def test_the_cache_is_the_users():
    pooch = pytest.importorskip("pooch")
    assert cache_folder("trained") == Path(pooch.os_cache("symport")) / "trained"


@pytest.mark.usefixtures("elsewhere")
def test_a_named_folder_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SYMPORT_DATA", "nowhere")
    with pytest.raises(FileError, match="SYMPORT_DATA is 'nowhere', which is not a folder"):
        find_data("mnist")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(DataError, match="'svhn' is not a data set in files; choose from mnist"):
        find_data("svhn")
    with pytest.raises(DataError, match="'svhn' is not a data set; choose from digits, mnist"):
        load("svhn")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_loading_finds_the_files_by_name(
    name: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYMPORT_DATA", str(elsewhere))
    (elsewhere / name).mkdir()
    write_mnist(elsewhere / name)
    assert load(name).name == name


def test_loading_takes_a_folder(tmp_path: Path):
    write_batch(tmp_path / "train", "fine_labels", [8, 2])
    write_batch(tmp_path / "test", "fine_labels", [2])
    assert load("cifar100", tmp_path).classes == 2
    with pytest.raises(FileError, match="holds none of data_batch_1"):
        load("cifar10", tmp_path)


def test_what_cannot_be_opened_lazily_says_so():
    with pytest.raises(DataError, match="'mnist' is not stored as single images; load it whole"):
        load_lazy("mnist")
    with pytest.raises(DataError, match="a folder of images has no place of its own; say where"):
        load("folder")
