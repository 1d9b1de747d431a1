import pytest

from symport.errors import FileError, SettingsError
from symport.port import PortSettings, make_settings
from symport.settings import RENAMED, read_settings, show_settings

FILES = {"old_base": "a", "tuned": "b", "new_base": "c", "out": "d"}


def test_settings_printed_as_yaml_read_back_the_same(tmp_path):
    settings = make_settings({**FILES, "method": "gmt", "scales": [0.5, 2]})
    path = tmp_path / "port.yaml"
    path.write_text(show_settings(settings))
    assert make_settings(read_settings(path)) == settings
    assert read_settings(path).keys() == PortSettings.model_fields.keys()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stepz": 3}, "no setting 'stepz'"),
        ({"lengths": [2]}, "lengths is called scales now"),
        ({"hold_back": 0.3, "recompute": True}, "held_out now; recompute is called activation_"),
        ({"folds": 1}, "folds: .*at least 2"),
        ({"steps": 0}, "steps: .*greater than or equal to 1, not 0"),
        ({"scales": [1, -1]}, "scales.1: .*greater than 0"),
        ({"method": "magic"}, "method 'magic' is none of fgmt, .*, nor module:Class"),
        ({"learning_rates": [float("inf")]}, "learning_rates.0: .*finite"),
        ({"old_base": None, "steps": 0}, "steps: .*; old_base: "),
    ],
)
def test_what_is_wrong_is_named(given, message):
    with pytest.raises(SettingsError, match=message):
        make_settings({**FILES, **given})


def test_no_setting_has_a_retired_name():
    assert not RENAMED.keys() & PortSettings.model_fields.keys()
    new = {name.partition("=")[0] for name in RENAMED.values()}
    assert new <= PortSettings.model_fields.keys()


def test_a_missing_setting_is_named():
    with pytest.raises(SettingsError, match="tuned is missing"):
        make_settings({"old_base": "a", "new_base": "b", "out": "c"})


def test_a_file_that_is_no_yaml_of_keys_is_refused(tmp_path):
    path = tmp_path / "port.yaml"
    with pytest.raises(FileError, match=r"port\.yaml: cannot be read"):
        read_settings(path)
    path.write_text("a: [1")
    with pytest.raises(FileError, match="cannot be read as YAML"):
        read_settings(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(SettingsError, match="expected lines such as"):
        read_settings(path)
