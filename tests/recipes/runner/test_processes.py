import pytest
import torch

from symport.errors import SettingsError
from symport_recipes.runner import device_of, share


def process(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_every_seed_goes_to_one_process(monkeypatch):
    found = []
    for rank in range(3):
        process(monkeypatch, RANK=str(rank), WORLD_SIZE="3")
        found.append(list(share(range(7))))
    assert found == [[0, 3, 6], [1, 4], [2, 5]]


def test_each_process_gets_a_gpu_of_its_own_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = []
    for rank in range(3):
        process(monkeypatch, LOCAL_RANK=str(rank))
        found.append((device_of("cuda"), device_of("cuda:1")))
    assert found == [("cuda:0", "cuda:1"), ("cuda:1", "cuda:1"), ("cuda:0", "cuda:1")]


@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there_is_refused(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match=rf"device '{name}': torch can use 0 GPUs"):
        device_of(name)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "x"}, "RANK is 'x', not a number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, WORLD_SIZE 2; ranks count from 0"),
    ],
)
def test_variables_that_make_no_sense_are_refused(variables, message, monkeypatch):
    process(monkeypatch, **variables)
    with pytest.raises(SettingsError, match=message):
        share(range(2))
