from pathlib import Path

import pytest
import torch
from tinyfiles import PACK, idx_bytes

from symport.errors import FileError
from symport_recipes.data.readers._idx import read_idx

GOOD = idx_bytes((2, 1, 3), bytes((1, 2, 3, 4, 5, 255)))


@pytest.mark.parametrize("ending", PACK)
def test_values_come_in_row_major_order(tmp_path: Path, ending: str):
    path = tmp_path / f"images{ending}"
    path.write_bytes(PACK[ending](GOOD))
    values = read_idx(path, 3)
    assert values.dtype == torch.uint8
    assert values.tolist() == [[[1, 2, 3]], [[4, 5, 255]]]


def test_a_file_written_by_hand_byte_for_byte_is_read(tmp_path: Path):
    # The example header of the format's description: 0x00000801, then the number of items.
    (tmp_path / "labels").write_bytes(bytes.fromhex("00000801 00000002 07 03"))
    assert read_idx(tmp_path / "labels", 1).tolist() == [7, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"starts with , expected 00 00 08 03"),
        (GOOD[:3], r"starts with 00 00 08, expected"),
        (b"\x00\x00\x0d\x03" + GOOD[4:], r"starts with 00 00 0d 03, .*\(unsigned bytes, 3 axes\)"),
        (b"\x00\x00\x08\x01" + GOOD[4:], r"starts with 00 00 08 01"),
        (b"<!DOCTYPE html>", r"starts with 3c 21 44 4f"),
        (GOOD[:10], r"ends inside its header"),
        (GOOD[:-1], r"its header says \(2, 1, 3\), that is 6 bytes, but 5 follow"),
        (GOOD + b"\x00", r"that is 6 bytes, but 7 follow; fetch it again"),
    ],
)
def test_what_is_no_idx_file_is_refused(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_a_file_without_values_is_read_as_empty(tmp_path: Path):
    (tmp_path / "images").write_bytes(idx_bytes((0, 2, 3), b""))
    assert read_idx(tmp_path / "images", 3).shape == (0, 2, 3)
