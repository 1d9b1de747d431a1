"""The flags of all commands, read from the apps: same things have the same name, help, default."""

import inspect
from collections import defaultdict
from typing import Any

import pytest
import typer.main
import yaml

from symport.cli._app import CONFIGURED, app
from symport.errors import SettingsError
from symport.settings import RENAMED, checked, explain_settings, gathered, read_settings

COMMANDS = {str(info.name): info for info in app.registered_commands}
MOST_FLAGS = 13
# Flags of one name that differ between commands, each with its reason.
OWN = {
    "model": "discover also takes a folder of transformers, which has no seed to train from",
    "steps": "a recorded source has a number of steps of its own",
}
# Defaults that differ between `transfer` and `port`, each with its reason.
OWN_DEFAULTS = {
    "batch_size": "inputs of classifiers are small, those of language models are not",
    "micro_batch": "all examples pass at once, which BatchNorm needs",
    "normalize": "a transfer sums gradients as the paper's algorithms do",
    "direct_steps": "from a random initialization training takes more steps",
    "learning_rates": "and larger ones",
    "steps": "a recorded source has a number of steps of its own",
    "examples": "a port can do without",
    "loss": "a transfer names a loss, a port's task has one",
}


def flags_of(command: str):
    """The flags of a command by key, as the library that parses them sees them."""
    group: Any = typer.main.get_command(app)  # of several commands, which its type leaves open
    return {p.name: p for p in group.commands[command].params if p.name != "help"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_shows_at_most_a_dozen_flags(command):
    assert len(flags_of(command)) <= MOST_FLAGS


def test_same_flags_have_the_same_help_and_default():
    uses = defaultdict(dict)
    for command in COMMANDS:
        for name, flag in flags_of(command).items():
            uses[name][command] = (tuple(flag.opts), flag.help, flag.default, flag.multiple)
    shared = {name: set(found.values()) for name, found in uses.items() if len(found) > 1}
    assert {"examples", "out", "method", "steps", "config", "print_config"} <= shared.keys()
    assert {name for name, kinds in shared.items() if len(kinds) > 1} == OWN.keys()


def test_same_keys_have_the_same_meaning_and_default():
    transfer, port = (CONFIGURED[name][1].model_fields for name in ("transfer", "port"))
    shared = transfer.keys() & port.keys()
    assert len(shared) >= 10
    reworded = {key for key in shared if transfer[key].description != port[key].description}
    assert reworded == {"loss"}
    differ = {
        key
        for key in shared
        if (transfer[key].is_required(), transfer[key].default)
        != (port[key].is_required(), port[key].default)
    }
    assert differ == OWN_DEFAULTS.keys()


VALUES = {"steps": "3", "folds": "3", "held_out": "0.5", "method": "weights", "task": "arrays",
          "fix_residual": "yes", "activations": "no", "pairs_dtype": "bfloat16",
          "dtype": "bfloat16", "activation_checkpointing": "true",
          "normalize": "false"}  # fmt: skip


@pytest.mark.parametrize("command", CONFIGURED)
def test_every_key_can_be_set_by_a_flag_or_by_set(command):
    function, schema = CONFIGURED[command]
    flags = inspect.signature(function).parameters.keys() - {
        "config",
        "assignments",
        "print_config",
    }
    assert flags <= schema.model_fields.keys()
    required = {key: "x" for key, field in schema.model_fields.items() if field.is_required()}
    for key in schema.model_fields:
        value = VALUES.get(key, "12")
        rest = {name: text for name, text in required.items() if name != key}
        for given in (
            gathered(schema, None, {**rest, key: value}),
            gathered(schema, None, rest, [f"{key}={value}"]),
        ):
            shown = getattr(checked(schema, given), key)
            text = str(shown[0] if isinstance(shown, tuple) else shown).lower()
            assert text.removesuffix(".0") == value


@pytest.mark.parametrize("command", CONFIGURED)
def test_all_settings_are_printed_with_their_meaning_and_read_back(command, tmp_path):
    schema = CONFIGURED[command][1]
    required = {key: "x" for key, field in schema.model_fields.items() if field.is_required()}
    text = explain_settings(schema, required)
    (tmp_path / "all.yaml").write_text(text)
    assert checked(schema, read_settings(tmp_path / "all.yaml")) == checked(schema, required)
    lines = text.splitlines()
    assert len(lines) == 2 * len(schema.model_fields)
    assert all(line.startswith("# ") and len(line) > 10 for line in lines[::2])
    empty = yaml.safe_load(explain_settings(schema, {}))
    assert empty.keys() == schema.model_fields.keys() - required.keys()


def test_assignments_are_checked():
    _, schema = CONFIGURED["port"]
    for text, message in (("steps", "expected KEY=VALUE"), ("=3", "expected KEY=VALUE")):
        with pytest.raises(SettingsError, match=message):
            gathered(schema, assignments=[text])
    with pytest.raises(SettingsError, match="steps is given twice"):
        gathered(schema, flags={"steps": "3"}, assignments=["steps=4"])
    with pytest.raises(SettingsError, match="scales: ',' is not a list"):
        gathered(schema, assignments=["scales=,"])
    assert gathered(schema, assignments=["labels=[a, 'b, c']"]) == {"labels": ["a", "b, c"]}
    with pytest.raises(SettingsError, match="no setting 'stepz'; did you mean steps"):
        checked(schema, {"stepz": 3})


RETIRED = [
    ("transfer", ["--data", "x"], "--data is now given as --examples"),
    ("transfer", ["--hold-out=0.3"], "--hold-out is now given as --set held_out=VALUE"),
    ("transfer", ["--folds", "2"], "--folds is now given as --set folds=VALUE"),
    ("port", ["--lengths", "1,2"], "--lengths is now given as --set scales=VALUE"),
    ("port", ["--no-direct"], "--no-direct is now given as --set direct_steps=0"),
    ("check", ["--max-length", "9"], "--max-length is now given as --set max_length=VALUE"),
    ("port", ["--set", "recompute=true"], "recompute is called activation_checkpointing now"),
]


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str]:
        from symport.cli import main

        monkeypatch.setattr("sys.argv", ["symport", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


@pytest.mark.parametrize(("command", "arguments", "message"), RETIRED)
def test_old_flags_are_refused_with_what_to_write(run, command, arguments, message):
    code, said = run(command, *arguments)
    assert code == 1
    assert len(said.splitlines()) == 1
    assert message in said


@pytest.mark.parametrize("old", RENAMED)
def test_every_old_name_is_refused_by_some_command(run, old):
    new = RENAMED[old].partition("=")[0]
    command = next(c for c, (_, schema) in CONFIGURED.items() if new in schema.model_fields)
    code, said = run(command, f"--{old.replace('_', '-')}", "1")
    assert (code, new.replace("_", "-") in said.replace("_", "-")) == (1, True)


def test_a_flag_that_never_was_is_a_usage_error(run):
    code, said = run("port", "--magic", "1")
    assert code == 2
    assert "--magic" in said
