import hashlib
import json
import os
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from symport.errors import FileError
from symport.io import _files as files
from symport.io import (
    append_line,
    digest,
    load_tensors,
    locked,
    make_folder,
    open_tensors,
    save_tensors,
    take_lock,
    write_text,
)
from tests.odd_tensors import network, same

FULL = OSError(28, "No space left on device")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_by_hand(path: Path, name: str) -> np.ndarray:
    """The format from its description: 8 bytes of header length, JSON, then the data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    entry = json.loads(content[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    assert entry["dtype"] == "F32"
    return np.frombuffer(content[begin:end], "<f4").reshape(entry["shape"])


def test_saved_tensors_come_back(tmp_path: Path):
    save_tensors(tmp_path / "a.safetensors", network())
    assert same(load_tensors(tmp_path / "a.safetensors"), network())
    assert same(load_tensors(str(tmp_path / "a.safetensors")), network())


def test_the_file_holds_what_the_format_says(tmp_path: Path):
    save_tensors(tmp_path / "a.safetensors", {"w": network()["weight"].T})
    np.testing.assert_array_equal(
        read_by_hand(tmp_path / "a.safetensors", "w"), np.arange(6.0).reshape(2, 3).T
    )


def test_views_and_shared_tensors_are_written_in_full(tmp_path: Path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"base": base, "tied": base, "row": base[1], "column": base[:, 2], "turned": base.T}
    save_tensors(tmp_path / "a.safetensors", tensors)
    assert same(load_tensors(tmp_path / "a.safetensors"), tensors)
    assert (tmp_path / "a.safetensors").stat().st_size < 8 + 600 + 4 * (12 * 3 + 4 + 3)


def test_parameters_that_require_gradients_are_saved(tmp_path: Path):
    model = nn.Linear(2, 2)
    save_tensors(tmp_path / "a.safetensors", dict(model.named_parameters()))
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")["bias"], model.bias.detach())


def test_the_file_is_as_readable_as_any_other(tmp_path: Path):
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "a.safetensors", network())
    write_text(tmp_path / "a.txt", "x")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(set(modes.values())) == 1, modes


def no_room(*_: object, **__: object) -> None:
    raise FULL


def no_room_after_a_half(_tensors: object, path: Path, _metadata: object) -> None:
    path.write_bytes(b"half of it")
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("owner", "name", "failure"),
    [
        (files, "save_file", no_room),
        (files, "save_file", no_room_after_a_half),
        (Path, "replace", no_room),
        (os, "fsync", no_room),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner, name, failure
):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"w": torch.ones(1)})
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failure)
        with pytest.raises(FileError, match=r"a\.safetensors: cannot be written .*No space.* free"):
            save_tensors(path, network())
    assert names_in(tmp_path) == ["a.safetensors"]
    assert load_tensors(path)["w"].item() == 1


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(tmp_path / "a.safetensors", network())
    assert not names_in(tmp_path)


def test_writing_into_no_folder_says_to_create_it(tmp_path: Path):
    with pytest.raises(FileError, match=r"create the folder .*missing first"):
        save_tensors(tmp_path / "missing" / "a.safetensors", network())
    with pytest.raises(FileError, match=r"create the folder .*missing first"):
        write_text(tmp_path / "missing" / "a.txt", "x")


def test_writing_over_a_folder_is_refused(tmp_path: Path):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(FileError, match="it is a folder: give the name of a file"):
        save_tensors(tmp_path / "a.safetensors", network())
    assert names_in(tmp_path) == ["a.safetensors"]


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)  # root may write everywhere, so chmod will not do
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError, match=r"Permission denied.*its folder is not writable: choose"):
        save_tensors(tmp_path / "a.safetensors", network())


def test_a_cut_file_is_refused_at_every_length(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, network())
    content = path.read_bytes()
    for length in range(1, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(FileError, match=r"a\.safetensors: cut short, or not a safetensors"):
            load_tensors(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "a.bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .No such file or directory.; check the path"),
        (b"", "the file is empty; copy or write it again"),
        (b"<html>404: not found</html>", "cut short, or not a .* file.*; copy or write it again"),
        (b"\x80\x02hello", "cut short, or not a .* file.*; copy or write it again"),
        (b"PK\x03\x04" + bytes(40), "cut short, or not a .* file.*; copy or write it again"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content, message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=f"{name}: {message}"):
        load_tensors(tmp_path / name)


def test_a_folder_is_not_a_file(tmp_path: Path):
    for name in ("a.safetensors", "a.pt"):
        (tmp_path / name).mkdir()
        with pytest.raises(FileError, match=f"{name}: cannot be read .Is a directory"):
            load_tensors(tmp_path / name)


def test_an_unknown_ending_is_refused(tmp_path: Path):
    with pytest.raises(FileError, match=r"a\.ckpt: the ending must be one of \.safetensors \.pt"):
        load_tensors(tmp_path / "a.ckpt")


def test_single_tensors_are_read_when_asked_for(tmp_path: Path):
    save_tensors(tmp_path / "a.safetensors", network(), {"epoch": "3"})
    with open_tensors(tmp_path / "a.safetensors") as tensors:
        assert tensors.metadata == {"epoch": "3"}
        assert set(tensors) == set(network())
        assert len(tensors) == 5
        assert tensors["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert "bias" not in tensors
        with pytest.raises(KeyError, match="bias"):
            tensors["bias"]


def test_an_outline_has_shapes_and_dtypes_but_no_contents(tmp_path: Path):
    tensors = {
        **network(),
        **{
            str(dtype): torch.zeros(2, 1).to(dtype)
            for dtype in (torch.float64, torch.float16, torch.float8_e5m2, torch.float8_e4m3fn)
        },
        **{
            str(dtype): torch.zeros(3, dtype=dtype)
            for dtype in (torch.int8, torch.int16, torch.uint8, torch.uint16, torch.complex64)
        },
    }
    save_tensors(tmp_path / "a.safetensors", tensors)
    with open_tensors(tmp_path / "a.safetensors") as file:
        outline = file.outline()
    assert outline.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert outline[name].is_meta
        assert (outline[name].shape, outline[name].dtype) == (tensor.shape, tensor.dtype)


def test_an_error_of_the_reader_is_not_blamed_on_the_file(tmp_path: Path):
    save_tensors(tmp_path / "a.safetensors", network())
    with (
        pytest.raises(FileNotFoundError, match="elsewhere"),
        open_tensors(tmp_path / "a.safetensors"),
    ):
        raise FileNotFoundError("elsewhere")


def test_text_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.json"
    write_text(path, "θ¹\n")
    assert path.read_bytes() == "θ¹\n".encode()
    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(FileError, match=r"a\.json: cannot be written"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "θ¹\n"
    assert names_in(tmp_path) == ["a.json"]


def test_lines_are_added_one_by_one(tmp_path: Path):
    for line in ("first", "zweite Zeile: ü", "3"):
        append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "first\nzweite Zeile: ü\n3\n"


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next(tmp_path: Path):
    (tmp_path / "log").write_text('{"step": 1}\n{"st')
    append_line(tmp_path / "log", '{"step": 2}')
    assert (tmp_path / "log").read_text().splitlines() == ['{"step": 1}', '{"st', '{"step": 2}']


def test_a_line_is_one_line_and_its_folder_must_exist(tmp_path: Path):
    with pytest.raises(FileError, match=r"log: 'a\\nb' contains a line break"):
        append_line(tmp_path / "log", "a\nb")
    with pytest.raises(FileError, match="create the folder"):
        append_line(tmp_path / "missing" / "log", "a")


def test_a_digest_is_a_hash_of_header_and_bytes():
    tensors = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3)}
    expected = hashlib.sha256(
        b'["a", "torch.int64", []]\n'
        + struct.pack("<q", 3)
        + b'["b", "torch.float32", [2]]\n'
        + struct.pack("<2f", 1, 2)
    )
    assert digest(tensors) == expected.hexdigest()
    assert digest(dict(reversed(tensors.items()))) == expected.hexdigest()


def test_a_digest_tells_names_shapes_dtypes_and_bits_apart():
    base = torch.tensor([0.0, 1.0])
    variants = [
        {"w": base},
        {"v": base},
        {"w": base.reshape(1, 2)},
        {"w": base.double()},
        {"w": torch.tensor([-0.0, 1.0])},
        {"w": base, "empty": torch.zeros(0)},
        {"w": base, "empty": torch.zeros(0, 1)},
        {},
    ]
    assert len({digest(variant) for variant in variants}) == len(variants)
    turned = torch.arange(6.0).reshape(2, 3).T
    assert digest({"w": turned}) == digest({"w": turned.contiguous()})


def test_a_folder_is_made_once_and_a_file_in_its_place_is_named(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "c").write_text("")
    with pytest.raises(FileError, match=r"c.d: cannot make this folder \(.*\); choose another"):
        make_folder(tmp_path / "c" / "d")


def test_a_locked_folder_keeps_others_out_and_an_empty_one_goes(tmp_path):
    with locked(tmp_path / "a") as folder:
        assert folder.is_dir()
        with (
            pytest.raises(FileError, match="a: another process is at work there"),
            locked(tmp_path / "a"),
        ):
            pass
        (folder / "x").write_text("")
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(FileError, match="cannot be opened"):
        take_lock(tmp_path / "none")
