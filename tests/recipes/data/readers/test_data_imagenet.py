import tarfile
from pathlib import Path

import pytest
from tinyfiles import mat_bytes, plain_image, records, tar_bytes, write_images

from symport.errors import DataError, FileError
from symport_recipes.data import LazyDataset, load_lazy
from symport_recipes.data.readers import _imagenet as module

DEVKIT = "ILSVRC2012_devkit_t12"
# Numbers do not follow the names, and 3 is no class but has children.
META = mat_bytes(
    synsets=records(ILSVRC2012_ID=[1, 2, 3], WNID=["n02", "n01", "n00"], num_children=[0, 0, 2])
)
TRUTH = b"1\n2\n2\n"  # n02, n01, n01


def write_training_tar(folder: Path):
    inner = {
        "n02": {"n02_9.JPEG": plain_image(90), "n02_1.JPEG": plain_image(10)},
        "n01": {"n01_5.JPEG": plain_image(50)},
    }
    outer = {f"{name}.tar": tar_bytes(files) for name, files in inner.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(outer))


def write_validation_tar(folder: Path):
    files = {f"ILSVRC2012_val_{k:08}.JPEG": plain_image(k) for k in (3, 1, 2)}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(files))


def write_devkit(folder: Path, truth: bytes = TRUTH, *, packed: bool = True):
    files = {"meta.mat": META, "ILSVRC2012_validation_ground_truth.txt": truth}
    if packed:
        named = {f"{DEVKIT}/data/{name}": content for name, content in files.items()}
        (folder / f"{DEVKIT}.tar.gz").write_bytes(tar_bytes(named, "w:gz"))
        return
    (folder / DEVKIT / "data").mkdir(parents=True)
    for name, content in files.items():
        (folder / DEVKIT / "data" / name).write_bytes(content)


def opened(folder: Path, cache: Path | None = None) -> LazyDataset:
    return load_lazy("imagenet", folder, size=4, cache=cache)


def check(data: LazyDataset):
    loaded = data.load()
    assert data.classes == ("n01", "n02")
    assert loaded.train_inputs[:, 0, 0, 0].tolist() == [50, 10, 90]
    assert loaded.train_labels.tolist() == [0, 1, 1]
    assert loaded.test_inputs[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert loaded.test_labels.tolist() == [1, 0, 0]


def test_official_tars_are_read_where_they_lie(tmp_path: Path):
    write_training_tar(tmp_path)
    write_validation_tar(tmp_path)
    write_devkit(tmp_path)
    before = sorted(tmp_path.iterdir())
    check(opened(tmp_path))
    assert sorted(tmp_path.iterdir()) == before


def test_folders_are_read_with_flat_validation_images(tmp_path: Path):
    write_images(tmp_path, train__n02__b=90, train__n02__a=10, train__n01__a=50)
    write_images(tmp_path, val__v2=2, val__v1=1, val__v3=3)
    write_devkit(tmp_path, packed=False)
    check(opened(tmp_path))


def test_validation_images_in_class_folders_need_no_devkit(tmp_path: Path):
    write_training_tar(tmp_path)
    write_images(tmp_path, val__n02__a=1, val__n01__a=2, val__n01__b=3)
    assert opened(tmp_path).test.labels.tolist() == [0, 0, 1]


def test_the_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_training_tar(tmp_path)
    write_validation_tar(tmp_path)
    write_devkit(tmp_path)
    check(opened(tmp_path, tmp_path / "cache"))
    monkeypatch.setattr(module, "_index", None)
    check(opened(tmp_path, tmp_path / "cache"))


def test_a_tar_cut_short_is_refused(tmp_path: Path):
    write_training_tar(tmp_path)
    path = tmp_path / "ILSVRC2012_img_train.tar"
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    with pytest.raises(FileError, match=r"train\.tar: cannot be read as a tar .*n02\.tar"):
        opened(tmp_path)
    path.write_bytes(b"no tar" * 200)
    with pytest.raises(FileError, match=r"train\.tar: cannot be read as a tar"):
        opened(tmp_path)


def test_an_inner_tar_that_claims_more_than_it_holds_is_refused(tmp_path: Path):
    inner = tar_bytes({"a.JPEG": bytes(5000)})[:2000]
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes({"n01.tar": inner, "z": inner}))
    with pytest.raises(FileError, match="is no tar of one tar for each class"):
        opened(tmp_path)
    outer = tar_bytes({"n01.tar": inner, "n02.tar": tar_bytes({"a.JPEG": bytes(5000)})})
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(outer)
    with pytest.raises(FileError, match=r"n01\.tar: cannot be read as a tar .*cut short"):
        opened(tmp_path)


def test_links_in_a_tar_are_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as tar:
        link = tarfile.TarInfo("n01.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(FileError, match=r"'n01\.tar' is no plain file"):
        opened(tmp_path)


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(FileError, match=r"ILSVRC2012_img_train\.tar: no such file, nor a folder"):
        opened(tmp_path)
    write_training_tar(tmp_path)
    with pytest.raises(FileError, match=r"ILSVRC2012_img_val\.tar: no such file, nor a folder val"):
        opened(tmp_path)
    write_validation_tar(tmp_path)
    with pytest.raises(FileError, match=r"meta\.mat: no such file, nor .*devkit_t12\.tar\.gz"):
        opened(tmp_path)
    (tmp_path / f"{DEVKIT}.tar.gz").write_bytes(b"damaged")
    with pytest.raises(FileError, match=r"devkit_t12\.tar\.gz: meta\.mat cannot be read from it"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (b"1\n2\n", "3 validation images, but ILSVRC.* has 2 labels"),
        (b"1\n2\n3\n", "ground_truth.txt: 3 is no class"),
        (b"1\n2\nx\n", "ground_truth.txt: .*'x' is no class"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, truth: bytes, message: str):
    write_training_tar(tmp_path)
    write_validation_tar(tmp_path)
    write_devkit(tmp_path, truth)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)
