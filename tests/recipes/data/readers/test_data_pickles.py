import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tinyfiles import python2_pickle, short

from symport.errors import FileError
from symport_recipes.data.readers._pickles import read_pickle

PATH = Path("data_batch_1")


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def dumped(value: object, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_every_protocol_are_read_as_numpy_reads_them(protocol: int):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    content = dumped({"data": array, b"labels": [1, 2], "names": [b"a", "b"]}, protocol)
    found = read_pickle(content, PATH)
    assert found["data"].dtype == torch.uint8
    assert torch.equal(found["data"], torch.tensor(array))
    assert found["labels"] == [1, 2]


def test_a_batch_of_python_2_is_read_as_the_standard_library_reads_it():
    pixels = bytes((0, 127, 128, 255, 10, 13))
    content = python2_pickle(b"labels", [7, 9], (2, 3), pixels)
    trusted = pickle.loads(content, encoding="bytes")
    found = read_pickle(content, PATH)
    assert found["labels"] == trusted[b"labels"] == [7, 9]
    assert found["data"].tolist() == trusted[b"data"].tolist() == [[0, 127, 128], [255, 10, 13]]


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (Call(os.system, "touch stolen"), r"\w+\.system"),
        (Call(eval, "open('stolen', 'w')"), "__builtin__.eval"),
        (Call(getattr, 1, "real"), "__builtin__.getattr"),
        (Call(np.load, "stolen"), "numpy.load"),
        (Call(np.ones, 3), r"numpy\..*ones"),
        (np.float64(1), r"numpy\..*scalar"),
        (torch.zeros(1), r"torch\._utils\._rebuild_tensor"),
        (Path("stolen"), "pathlib"),
    ],
)
def test_nothing_but_arrays_is_called(
    value: object, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=rf"refused .*it asks for {asked}"):
        read_pickle(dumped({"data": value}), PATH)
    assert not any(tmp_path.iterdir())


def test_the_class_behind_a_function_cannot_be_reached_by_a_dotted_name():
    content = b"\x80\x04\x8c\x05numpy\x8c\x16ndarray.__subclasses__\x93."
    with pytest.raises(FileError, match=r"it asks for numpy\.ndarray\.__subclasses__"):
        read_pickle(content, PATH)


def test_what_stands_in_for_a_function_cannot_be_changed():
    # A class of Python would take this state as its attributes, for this file and the next.
    state = b"N}" + short(b"name") + short(b"encode") + b"s\x86b"
    for name in (b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n"):
        with pytest.raises(FileError, match="cannot be given a state"):
            read_pickle(b"\x80\x02" + name + state + b".", PATH)


def test_what_stands_in_for_a_class_makes_no_object_by_itself():
    with pytest.raises(FileError, match="refused"):
        read_pickle(b"\x80\x02cnumpy\nndarray\n)\x81.", PATH)


def test_only_latin1_text_is_turned_into_bytes():
    content = b"\x80\x02}" + short(b"x") + b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00"
    assert read_pickle(content[:-5] + b"X\x06\x00\x00\x00latin1\x86Rs.", PATH) == {"x": b"a"}
    with pytest.raises(FileError, match="allowed for latin1 only"):
        read_pickle(content + b"rot13\x86Rs.", PATH)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"data": np.arange(3)}, "not uint8"),
        ({"data": np.array([None, "x"])}, "not uint8"),
        ({"data": np.asfortranarray(np.ones((2, 2), np.uint8))}, "row-major"),
        ([1, 2], "it is not a dictionary"),
    ],
)
def test_content_of_another_kind_is_refused(value: object, message: str):
    with pytest.raises(FileError, match=rf"data_batch_1: refused .*{message}.*official file"):
        read_pickle(dumped(value), PATH)


def test_an_array_with_more_places_than_bytes_is_refused():
    content = python2_pickle(b"labels", [0], (1, 3), b"abc")
    longer = content.replace(b"M\x01\x00M\x03\x00", b"M\x01\x00M\xff\xff")
    assert longer != content
    with pytest.raises(FileError, match=r"does not hold \(1, 65535\) bytes"):
        read_pickle(longer, PATH)


@pytest.mark.parametrize("kept", [0, 1, 20, 60, -1])
def test_a_pickle_cut_short_is_refused(kept: int):
    content = python2_pickle(b"labels", [0], (1, 3), b"abc")
    with pytest.raises(FileError, match="data_batch_1: refused"):
        read_pickle(content[:kept], PATH)
