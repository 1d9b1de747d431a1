import builtins
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from symport.errors import FileError
from symport.io import load_tensors
from tests.odd_tensors import network, same


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin"])
def test_a_pickled_state_dict_is_read(tmp_path: Path, name: str):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    torch.save(model.state_dict(), tmp_path / name)
    assert same(load_tensors(tmp_path / name), dict(model.state_dict()))
    torch.save({"epoch": 3, "state_dict": model.state_dict(), "name": "x"}, tmp_path / name)
    assert same(load_tensors(tmp_path / name), dict(model.state_dict()))


def test_pickled_parameters_come_back_as_plain_tensors(tmp_path: Path):
    torch.save({"w": nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")
    assert not load_tensors(tmp_path / "a.pt")["w"].requires_grad


def test_the_old_file_format_of_pytorch_is_read(tmp_path: Path):
    torch.save(network(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(load_tensors(tmp_path / "a.pt"), network())


def test_a_pickled_model_is_refused_with_a_way_out(tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"more than tensors \(torch.nn.*Linear\).*save_tensors\("):
        load_tensors(tmp_path / "a.pt")


class Bomb:
    def __reduce__(self):
        return builtins.print, ("the pickle ran",)


@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_a_pickle_never_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], write):
    write({"w": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"a\.pt: "):
        load_tensors(tmp_path / "a.pt")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), "is of type Tensor, not a dict of tensors; load it where it was made"),
        ([torch.ones(2)], "is of type list, not a dict of tensors"),
        (
            {"w": torch.ones(2), "epoch": 3},
            "entry 'epoch' is of type int, not a tensor under a name",
        ),
        ({"model": {"w": torch.ones(2)}}, "entry 'model' is of type dict, not"),
        ({"state_dict": {"w": [1.0]}}, "entry 'w' is of type list"),
        ({3: torch.ones(2)}, "entry 3 is of type Tensor, not a tensor under a name"),
    ],
)
def test_a_pickle_of_anything_but_a_state_dict_is_refused(tmp_path: Path, content, message: str):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FileError, match=message):
        load_tensors(tmp_path / "a.pt")


def test_a_cut_pickle_is_refused(tmp_path: Path):
    path = tmp_path / "a.pt"
    torch.save(network(), path)
    content = path.read_bytes()
    for length in (1, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(FileError, match=r"a\.pt: cut short, or not a PyTorch file; copy"):
            load_tensors(path)
