from pathlib import Path

import pytest
import torch
from tinyfiles import write_images

from symport.errors import DataError, FileError
from symport_recipes.data import load
from symport_recipes.data._encoded import whole_files


def test_classes_count_in_the_order_of_their_names(tmp_path: Path):
    write_images(tmp_path, train__zebra__a=10, train__ape__b=20, train__ape__a=30)
    write_images(tmp_path, val__ape__x=40, val__zebra__x=50)
    (tmp_path / "train" / "ape" / "notes.txt").write_text("none")
    data = load("folder", tmp_path, size=4)
    assert data.train_inputs[:, 0, 0, 0].tolist() == [30, 20, 10]
    assert data.train_labels.tolist() == [0, 0, 1]
    assert data.test_inputs[:, 0, 0, 0].tolist() == [40, 50]
    assert (data.name, data.classes) == (tmp_path.name, 2)
    assert data.note == "1 files that are no .jpg or .png left out"


def test_a_test_folder_serves_as_well(tmp_path: Path):
    write_images(tmp_path, train__a__a=10, test__a__a=20)
    assert load("folder", tmp_path, size=2).note == ""


def test_halves_with_other_classes_are_refused(tmp_path: Path):
    write_images(tmp_path, train__a__a=1, train__b__a=1, val__a__a=1, val__c__a=1, val__d__a=1)
    with pytest.raises(DataError, match="2 classes to train on, 3 to test on; only in training: b"):
        load("folder", tmp_path)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "train: no such folder"),
        (["train"], "train: holds no folder; put one folder of images for each class"),
        (["train/a"], "a: holds no .jpg, .jpeg, .png file"),
    ],
)
def test_an_incomplete_folder_is_named(tmp_path: Path, made: list[str], message: str):
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(FileError, match=message):
        load("folder", tmp_path)


def test_a_missing_half_is_named(tmp_path: Path):
    write_images(tmp_path, train__a__a=1)
    with pytest.raises(FileError, match="holds no folder val or test"):
        load("folder", tmp_path)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "b/../../a.png", "..\\a.png"])
def test_a_list_cannot_name_files_elsewhere(tmp_path: Path, name: str):
    with pytest.raises(FileError, match="leads out of it"):
        whole_files(tmp_path, [name])


def test_places_follow_the_index(tmp_path: Path):
    write_images(tmp_path, a=1, b=2)
    files = whole_files(tmp_path, ["a.png", "b.png"]).part(torch.tensor([1]))
    assert files.read(0) == (tmp_path / "b.png").read_bytes()
