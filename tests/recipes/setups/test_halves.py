from functools import partial

import pytest
import torch
from tinyfiles import write_images
from torch import nn

from symport_recipes.data import LazyImages, load_lazy
from symport_recipes.networks import initial
from symport_recipes.setups import _halves as module
from symport_recipes.setups import halves
from symport_recipes.setups._halves import Drawn
from symport_recipes.training import TrainSettings, trained


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """40 images of two classes, dark and light, that are decoded batch by batch."""
    for half in ("train", "val"):
        for name, base in (("dark", 10), ("light", 180)):
            shades = {f"i{k}": base + k for k in range(20)}
            write_images(tmp_path / half / name, **shades)
    opened = partial(load_lazy, "folder", tmp_path, size=8)
    monkeypatch.setattr(module, "load_lazy", lambda name: opened())
    monkeypatch.setattr(module, "TOO_LARGE", ("folder",))
    halves.cache_clear()
    yield halves("folder")
    halves.cache_clear()


def test_encoded_images_are_divided_without_decoding_those_to_train_on(encoded):
    assert isinstance(encoded.training, LazyImages)
    assert (len(encoded.training), len(encoded.validation.labels)) == (36, 4)
    assert encoded.validation.inputs.shape == (4, 3, 8, 8)
    assert encoded.training.labels.bincount().tolist() == [18, 18]
    half = halves("folder", 0.5).training
    assert isinstance(half, LazyImages)
    assert set(half.encoded.names) < set(encoded.training.encoded.names)
    assert half.labels.bincount().tolist() == [9, 9]


def test_a_large_tenth_is_validated_in_part(encoded, monkeypatch):
    monkeypatch.setattr(module, "DECODED", 3)
    halves.cache_clear()
    part = halves("folder").validation
    assert len(part.labels) == 3
    whole = {tuple(row) for row in encoded.validation.inputs.flatten(1).tolist()}
    assert {tuple(row) for row in part.inputs.flatten(1).tolist()} < whole


def test_batches_are_decoded_when_asked_for(encoded):
    places = [torch.tensor([0, 35]), torch.tensor([3])]
    drawn = Drawn(encoded.training, places)
    inputs, labels = drawn[0]
    assert len(drawn) == 2
    assert labels.tolist() == [0, 1]
    assert inputs.mean((1, 2, 3)).diff() > 1  # light minus dark, in standard deviations


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))


def test_encoded_images_are_trained_on_and_found_again(encoded, tmp_path):
    settings = TrainSettings(epochs=3, batch_size=9, lr=0.01)
    get = partial(
        trained, network(), initial(network, 0), settings=settings, seed=0,
        folder=tmp_path / "kept",
    )  # fmt: skip
    first = get(examples=encoded.training)
    outputs = torch.func.functional_call(network(), first.params, encoded.validation.inputs)
    assert torch.equal(outputs.argmax(1), encoded.validation.labels)
    assert get(examples=encoded.training).elapsed_seconds == pytest.approx(
        first.elapsed_seconds, abs=0.1
    )
    get(examples=encoded.training.part(torch.arange(36).flip(0)))
    assert len(list((tmp_path / "kept").iterdir())) == 2
