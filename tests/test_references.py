import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from symport.errors import DataError, FileError, SettingsError
from symport.io import save_tensors
from symport.references import (
    LOSSES,
    cross_entropies,
    load_examples,
    load_function,
    load_losses,
    load_model,
    squared_errors,
)

NETS = """
import torch
from torch import nn

class Shop:
    @staticmethod
    def small():
        return nn.Linear(2, 3)

def mlp():
    return nn.Linear(4, 3)

def needs(width):
    return nn.Linear(width, 3)

def nothing():
    return None

def broken():
    return torch.zeros(2) @ torch.zeros(3)

def pair():
    return [[1.0, 2.0], [3.0, 4.0]], [0, 1]

def triple():
    return 1, 2, 3

def words():
    return ["a", "b"], [0, 1]

def loss(outputs, labels):
    return outputs.sum()

number = 3
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A folder to work in with the module that a person has written there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(NETS)
    yield tmp_path
    for name in ("mynets", "cracked", "hollow"):
        sys.modules.pop(name, None)


def test_a_function_of_the_current_folder_is_found(nets):
    path = list(sys.path)
    assert load_function("mynets:mlp")().out_features == 3
    assert load_function("mynets:Shop.small")().in_features == 2
    assert load_function("torch.nn.functional:relu") is functional.relu
    assert sys.path == path


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mynets", "'mynets' is not of the form module:function, e.g. nets:mlp"),
        (":mlp", "not of the form"),
        ("mynets:", "not of the form"),
        ("mynets.py:mlp", "write the module without .py, mynets:mlp"),
        ("mynets:conv", "no attribute 'conv'; is it spelled right"),
        ("nowhere:mlp", "No module named 'nowhere'; is it spelled right and installed"),
        ("mynets:number", "mynets:number is of type int, not a function"),
    ],
)
def test_a_function_that_is_not_there_is_refused(nets, reference, message):
    with pytest.raises(SettingsError, match=message):
        load_function(reference)


def test_a_module_that_fails_is_named_with_its_line(nets):
    (nets / "cracked.py").write_text("x = 1\nraise RuntimeError('out of paint')\n")
    with pytest.raises(SettingsError, match=r"RuntimeError: out of paint \(.*cracked.py, line 2\)"):
        load_function("cracked:mlp")
    (nets / "hollow.py").write_text("def (\n")
    with pytest.raises(SettingsError, match=r"importing hollow fails with SyntaxError"):
        load_function("hollow:mlp")


def test_a_model_is_made_by_its_function(nets):
    assert isinstance(load_model("mynets:mlp"), nn.Linear)
    with pytest.raises(SettingsError, match="mynets:nothing returned a NoneType"):
        load_model("mynets:nothing")
    with pytest.raises(SettingsError, match=r"needs\(\) fails with TypeError: .*'width'"):
        load_model("mynets:needs")


def test_a_failing_function_is_blamed_where_its_own_code_failed(nets):
    line = NETS.splitlines().index("    return torch.zeros(2) @ torch.zeros(3)") + 1
    with pytest.raises(SettingsError, match=rf"RuntimeError: .*mynets.py, line {line}\)"):
        load_model("mynets:broken")


def test_losses_have_names_or_are_functions(nets):
    outputs, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    assert load_losses("cross-entropy") is cross_entropies
    assert load_losses("mynets:loss")(outputs, labels) == outputs.sum()
    with pytest.raises(SettingsError, match="no loss 'hinge': cross-entropy, mse, or module:func"):
        load_losses("hinge")


def test_the_squared_error_is_taken_to_one_hot_labels():
    outputs, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    total = 0.0
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        total += sum((value - (k == label)) ** 2 for k, value in enumerate(row))
    for integer in (torch.int64, torch.uint8):
        assert float(squared_errors(outputs, labels.to(integer)).mean()) == pytest.approx(
            total / 15
        )
    assert squared_errors(outputs, outputs + 2).tolist() == pytest.approx([4] * 5)
    assert LOSSES["mse"] is squared_errors


@pytest.mark.parametrize("write", ["npz", "safetensors"])
def test_examples_are_read_from_files(tmp_path, write):
    inputs, labels = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 1, 0])
    path = tmp_path / f"few.{write}"
    if write == "npz":
        np.savez_compressed(path, inputs=inputs, labels=labels, more=inputs)
    else:
        save_tensors(path, {"inputs": torch.tensor(inputs), "labels": torch.tensor(labels)})
    found = load_examples(str(path))
    assert np.array_equal(found.inputs.numpy(), inputs)
    assert np.array_equal(found.labels.numpy(), labels)


def test_examples_are_made_by_a_function(nets):
    found = load_examples("mynets:pair")
    assert found.inputs.tolist() == [[1, 2], [3, 4]]
    assert found.labels.tolist() == [0, 1]
    for name in ("triple", "words", "number"):
        with pytest.raises((DataError, SettingsError), match=f"mynets:{name} (must return|is of)"):
            load_examples(f"mynets:{name}")
    with pytest.raises(SettingsError, match=r"mynets:broken\(\) fails with RuntimeError"):
        load_examples("mynets:broken")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_integer_labels_become_int64(tmp_path, dtype):
    np.savez(tmp_path / "x.npz", inputs=np.zeros((2, 1)), labels=np.array([1, 0], dtype))
    labels = load_examples(str(tmp_path / "x.npz")).labels
    assert (labels.dtype, labels.tolist()) == (torch.int64, [1, 0])


def test_inputs_take_the_dtype_of_the_weights_if_asked(tmp_path):
    path = str(tmp_path / "x.npz")
    np.savez(path, inputs=np.ones((2, 1)), labels=np.array([0.5, 1.0]))
    half = {"w": torch.zeros(1).bfloat16(), "n": torch.tensor(1)}
    mixed = {**half, "v": torch.zeros(1)}
    dtypes = [load_examples(path, like=like).inputs.dtype for like in (None, half, mixed, {})]
    assert dtypes == [torch.float64, torch.bfloat16, torch.float64, torch.float64]
    assert load_examples(path, like=half).labels.dtype == torch.float64
    np.savez(path, inputs=np.ones((2, 1), np.uint8), labels=np.array([0, 1]))
    assert load_examples(path, like=half).inputs.dtype == torch.uint8


def test_files_without_examples_are_refused(tmp_path):
    def refused(name, error, message):
        with pytest.raises(error, match=message):
            load_examples(str(tmp_path / name))

    np.savez(tmp_path / "x.npz", inputs=np.zeros((2, 1)))
    refused("x.npz", DataError, r"x\.npz: has no array 'labels', only \['inputs'\]")
    np.savez(tmp_path / "x.npz", inputs=np.zeros((0, 1)), labels=np.zeros(0))
    refused("x.npz", DataError, r"x\.npz: there are no examples")
    np.savez(tmp_path / "x.npz", inputs=np.zeros((2, 1)), labels=np.zeros(3))
    refused("x.npz", DataError, r"x\.npz: inputs of shape \(2, 1\) need one label each")
    refused("x.csv", DataError, r"give a \.safetensors or \.npz file, or module:function")
    refused("gone.npz", FileError, r"gone\.npz: cannot be read \(No such file")
    refused("gone.safetensors", FileError, r"gone\.safetensors: cannot be read")
    (tmp_path / "x.safetensors").write_bytes(b"not tensors at all")
    refused("x.safetensors", FileError, "not a safetensors file")


def test_arrays_that_need_unpickling_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, inputs=np.array([{}, None], dtype=object), labels=np.array([0, 1]))
    with pytest.raises(FileError, match=r"not a whole \.npz file of plain numbers .*allow_pickle"):
        load_examples(str(path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N.", b"hello, world" * 99])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FileError, match=r"not a whole \.npz file .*write it again with"):
        load_examples(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path, share):
    np.savez(
        tmp_path / "x.npz", inputs=np.random.default_rng(0).random((9, 9)), labels=np.arange(9)
    )
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileError, match=r"not a whole \.npz file"):
        load_examples(str(tmp_path / "x.npz"))


def test_damaged_files_are_refused_or_read_but_never_anything_else(tmp_path):
    path, generator = tmp_path / "x.npz", np.random.default_rng(0)
    np.savez_compressed(path, inputs=generator.random((50, 9)), labels=np.arange(50))
    whole, refused = path.read_bytes(), 0
    for _ in range(200):
        content = bytearray(whole)
        for place in generator.integers(len(whole), size=5):
            content[place] = generator.integers(256)
        path.write_bytes(content)
        try:
            load_examples(str(path))
        except (DataError, FileError):
            refused += 1
    assert refused > 100


def test_text_and_lone_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", inputs=np.array(["a", "b"]), labels=np.array([0, 1]))
    with pytest.raises(FileError, match="plain numbers"):
        load_examples(str(tmp_path / "x.npz"))
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(FileError, match=r"not a whole \.npz file"):
        load_examples(str(tmp_path / "x.npz"))


@pytest.fixture
def _libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchvision 0.28 and timm 1.0 offer of what is used: a function, a name, options."""

    def make(name: str, *, num_classes: int = 1000) -> nn.Module:
        if name != "tiny":
            raise ValueError(f"Unknown model {name}")
        return nn.Linear(2, num_classes)

    torchvision, models, timm = (ModuleType(n) for n in ("torchvision", "models", "timm"))
    vars(models)["get_model"] = vars(timm)["create_model"] = make
    vars(torchvision)["models"] = models
    for name, module in (
        ("torchvision", torchvision), ("torchvision.models", models), ("timm", timm)
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("_libraries")
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_networks_of_other_libraries_are_made_by_name(library: str):
    assert load_model(f"{library}:tiny").out_features == 1000
    assert load_model(f"{library}:tiny", num_classes=7).out_features == 7
    with pytest.raises(
        SettingsError, match=r"\('huge', num_classes=7\) fails .* Unknown model huge"
    ):
        load_model(f"{library}:huge", num_classes=7)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingsError, match=r"timm.*is it spelled right and installed"):
        load_model("timm:tiny")
