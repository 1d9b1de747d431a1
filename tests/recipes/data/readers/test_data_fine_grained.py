"""Stanford Cars and CUB-200-2011."""

from pathlib import Path

import numpy as np
import pytest
from tinyfiles import mat_bytes, records, write_images

from symport.errors import DataError, FileError
from symport_recipes.data import load


def write_annotations(path: Path, names: list[str], classes: list[int]):
    ones = [1] * len(names)
    boxes = dict.fromkeys(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), ones)
    columns = {**boxes, "class": [np.uint8(c) for c in classes], "fname": names}
    path.write_bytes(mat_bytes(annotations=records(**columns)))


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    (tmp_path / "devkit").mkdir()
    names = np.array([["AM General Hummer", "Acura RL"]], dtype=object)
    (tmp_path / "devkit" / "cars_meta.mat").write_bytes(mat_bytes(class_names=names))
    write_annotations(tmp_path / "devkit" / "cars_train_annos.mat", ["b.png", "a.png"], [2, 1])
    write_annotations(tmp_path / "cars_test_annos_withlabels.mat", ["a.png"], [2])
    write_images(tmp_path, cars_train__a=10, cars_train__b=20, cars_test__a=30)
    return tmp_path


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    write_images(tmp_path, images__1__a=10, images__1__b=20, images__2__a=30, images__2__b=40)
    lists = {
        "images": "1 1/a.png\n2 1/b.png\n3 2/a.png\n4 2/b.png\n",
        "image_class_labels": "1 1\n2 1\n3 2\n4 2\n",
        "train_test_split": "1 0\n2 1\n3 1\n4 0\n",
        "classes": "1 001.Albatross\n2 002.Auklet\n",
    }
    for name, text in lists.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_cars_are_labelled_by_their_annotations(cars: Path):
    data = load("cars", cars, size=4)
    assert data.train_inputs[:, 0, 0, 0].tolist() == [20, 10]
    assert data.train_labels.tolist() == [1, 0]
    assert data.test_inputs[:, 0, 0, 0].tolist() == [30]
    assert data.test_labels.tolist() == [1]
    assert (data.name, data.classes) == ("cars", 2)


def test_annotations_of_cars_that_do_not_fit_are_refused(cars: Path):
    path = cars / "cars_test_annos_withlabels.mat"
    write_annotations(path, ["a.png"], [3])
    with pytest.raises(DataError, match=r"withlabels\.mat: a class is not a number from 1 to 2"):
        load("cars", cars)
    write_annotations(path, ["a.png", "z.png"], [1, 1])
    with pytest.raises(FileError, match=r"z\.png: no such file; 1 of 2 images"):
        load("cars", cars)
    path.write_bytes(mat_bytes(annotations=records(fname=["a.png"])))
    with pytest.raises(FileError, match=r"withlabels\.mat: 'annotations\.class' cannot be read"):
        load("cars", cars)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(FileError, match=r"withlabels\.mat: 'annotations\.fname' cannot be read"):
        load("cars", cars)
    path.unlink()
    with pytest.raises(FileError, match=r"cars_test_annos_withlabels\.mat: no such file"):
        load("cars", cars)


def test_birds_are_divided_by_their_lists(cub: Path):
    data = load("cub", cub, size=4)
    assert data.train_inputs[:, 0, 0, 0].tolist() == [20, 30]
    assert data.train_labels.tolist() == [0, 1]
    assert data.test_inputs[:, 0, 0, 0].tolist() == [10, 40]
    assert data.test_labels.tolist() == [0, 1]
    assert (data.name, data.classes) == ("cub", 2)


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("train_test_split", "1 0\n", DataError, "have 4, 4 and 1 lines, not for the same"),
        ("classes", "1 001.Albatross\n", DataError, "classes.txt does not name class 2"),
        ("images", "1 a b\n", FileError, "images.txt: a line is not a number and a name"),
        ("images", "1 ../a\n2 a\n3 b\n4 c\n", FileError, "leads out of it"),
    ],
)
def test_lists_of_birds_that_do_not_fit_are_refused(
    cub: Path, name: str, text: str, error: type[Exception], message: str
):
    (cub / f"{name}.txt").write_text(text)
    if "leads" in message:
        (cub / "train_test_split.txt").write_text("1 1\n2 1\n3 1\n4 0\n")
    with pytest.raises(error, match=message):
        load("cub", cub)


def test_a_missing_list_is_named(cub: Path):
    (cub / "classes.txt").unlink()
    with pytest.raises(FileError, match=r"classes\.txt: no such file"):
        load("cub", cub)
