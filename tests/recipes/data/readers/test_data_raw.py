import gzip
import hashlib
import lzma
from pathlib import Path

import pytest
import torch
from tinyfiles import PACK

from symport.errors import FileError
from symport_recipes.data.readers._raw import as_tensor, find_file, md5, read_bytes, require_file

CONTENT = bytes(range(256)) * 9


@pytest.mark.parametrize("ending", PACK)
def test_a_file_reads_the_same_however_it_is_packed(tmp_path: Path, ending: str):
    path = tmp_path / f"x{ending}"
    path.write_bytes(PACK[ending](CONTENT))
    assert read_bytes(path) == CONTENT


def test_packing_is_told_by_content_not_by_name(tmp_path: Path):
    path = tmp_path / "x.gz"
    path.write_bytes(lzma.compress(CONTENT))
    assert read_bytes(path) == CONTENT


@pytest.mark.parametrize("ending", [".gz", ".xz"])
@pytest.mark.parametrize("kept", [8, -5])
def test_a_packed_file_cut_short_is_refused(tmp_path: Path, ending: str, kept: int):
    path = tmp_path / f"x{ending}"
    path.write_bytes(PACK[ending](CONTENT)[:kept])
    with pytest.raises(FileError, match=r"x\.[gx]z: cannot be read .*fetch it again"):
        read_bytes(path)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path):
    packed = bytearray(gzip.compress(CONTENT))
    packed[14] ^= 0xFF
    path = tmp_path / "x.gz"
    path.write_bytes(packed)
    with pytest.raises(FileError, match="cannot be read"):
        read_bytes(path)


@pytest.mark.parametrize("ending", PACK)
def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path, ending: str):
    path = tmp_path / f"x{ending}"
    path.write_bytes(PACK[ending](CONTENT))
    assert len(read_bytes(path, limit=len(CONTENT))) == len(CONTENT)
    with pytest.raises(FileError, match="holds more than 2303 bytes"):
        read_bytes(path, limit=len(CONTENT) - 1)


def test_an_empty_file_holds_nothing(tmp_path: Path):
    (tmp_path / "x").touch()
    assert read_bytes(tmp_path / "x") == b""


def test_a_plain_file_is_preferred_to_a_packed_one(tmp_path: Path):
    for ending in (".xz", ".gz", ""):
        (tmp_path / f"x{ending}").touch()
        assert find_file(tmp_path, "x") == tmp_path / f"x{ending}"


def test_a_missing_file_is_named(tmp_path: Path):
    assert find_file(tmp_path, "x") is None
    with pytest.raises(FileError, match=r"x: no such file, nor with \.gz or \.xz; put the"):
        require_file(tmp_path, "x")


def test_a_folder_is_no_file(tmp_path: Path):
    (tmp_path / "x").mkdir()
    assert find_file(tmp_path, "x") is None
    with pytest.raises(FileError, match="cannot be read"):
        read_bytes(tmp_path / "x")


def test_md5_is_the_known_sum_of_the_empty_file():
    assert md5(b"") == "d41d8cd98f00b204e9800998ecf8427e"  # RFC 1321, appendix A.5
    assert md5(CONTENT) == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x07"])
def test_bytes_become_a_tensor_of_their_own(content: bytes):
    tensor = as_tensor(content)
    assert tensor.dtype == torch.uint8
    assert tensor.tolist() == list(content)
    tensor += 1
    assert content in (b"", b"\x00\xff\x07")
