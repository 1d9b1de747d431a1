import math

import pytest

from symport.errors import SettingsError
from symport_recipes.training import TrainSettings


@pytest.mark.parametrize("length", [None, 1])
def test_a_length_is_given_once(length: int | None):
    with pytest.raises(SettingsError, match="give one of the two"):
        TrainSettings(epochs=length, steps=length)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("lr", 0.0, "above 0 and finite"),
        ("lr", math.nan, "above 0 and finite"),
        ("lr", math.inf, "above 0 and finite"),
        ("momentum", 1.0, "from 0 to below 1"),
        ("weight_decay", -1e-4, "at least 0 and finite"),
        ("schedule", "linear", "constant or cosine"),
        ("warmup_epochs", 3, "below epochs"),
        ("warmup_epochs", -1, "below epochs"),
        ("optimizer", "lamb", "sgd or adam"),
    ],
)
def test_a_value_out_of_its_range_is_refused(field: str, value: object, expected: str):
    with pytest.raises(SettingsError, match=f"{field} is .*; expected .*{expected}"):
        TrainSettings(**{"epochs": 3, field: value})


def test_steps_are_counted_from_one_and_do_not_warm_up():
    with pytest.raises(SettingsError, match="steps is 0; expected at least 1"):
        TrainSettings(steps=0)
    with pytest.raises(SettingsError, match="warmup_epochs is 1; expected"):
        TrainSettings(steps=10, warmup_epochs=1)
