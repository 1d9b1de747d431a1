import json
import sys

import pytest

from symport.cli import console, run_app
from symport.cli._console import one_line
from symport.errors import SpecError


@pytest.fixture
def run(monkeypatch, capsys):
    def call(app, *arguments):
        monkeypatch.setattr(sys, "argv", ["symport", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_app(app)
        return ended.value.code, capsys.readouterr().err

    return call


def test_an_error_raised_on_purpose_is_one_line_and_exit_code_1(run):
    def app() -> None:
        raise SpecError("first\n  [bold]second[/bold] :smile: " + "long " * 50)

    code, said = run(app)
    assert code == 1
    assert said.startswith("error: first [bold]second[/bold] :smile: long long")
    assert said.count("\n") == 1


class Panic(BaseException):
    """As Rust libraries raise it."""


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("by 0"), KeyError("a\nb"), RecursionError("deep"), Panic("unwrap")]
)
def test_an_error_that_nobody_foresaw_is_one_line_too(run, error):
    def app() -> None:
        raise error

    code, said = run(app)
    assert code == 1
    assert said.startswith(f"error: {type(error).__name__}: ")
    assert "--debug" in said
    assert said.count("\n") == 1


def test_the_file_at_hand_is_named(run, tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[" * 100_000)

    def app() -> None:
        json.loads(path.read_text())

    code, said = run(app)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("error: RecursionError")
    assert f"(while working on {path})" in said


def test_a_long_message_is_cut_and_lack_of_memory_is_said():
    assert len(one_line(ValueError("x" * 10_000))) < 500
    assert one_line(MemoryError()).startswith("out of memory")
    name = "n" * 5000
    assert one_line(SpecError(f"{name} is no name \ud800")) == (
        f"{name[:100]}…{name[:30]} is no name \\ud800"
    )


@pytest.mark.parametrize("error", [ZeroDivisionError, SpecError])
@pytest.mark.parametrize("arguments", [("--debug", "port"), ("port", "--out", "x", "--debug")])
def test_debug_lets_the_traceback_through(monkeypatch, error, arguments):
    monkeypatch.setattr(sys, "argv", ["symport", *arguments])

    def app() -> None:
        assert "--debug" not in sys.argv
        raise error

    with pytest.raises(error):
        run_app(app)


def test_an_interruption_is_no_error(run):
    def app() -> None:
        raise KeyboardInterrupt

    assert run(app) == (130, "stopped\n")


def test_the_home_folder_is_found_where_the_shell_leaves_its_sign(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ["--out=~/x", "~/y", "~", "a~/b", "--loss=f~", "~z", "--", "--debug", "~/literal"]
    monkeypatch.setattr(sys, "argv", ["symport", *given])
    run_app(lambda: None)
    home = str(tmp_path)
    expected = [f"--out={home}/x", f"{home}/y", home, "a~/b", "--loss=f~", "~z"]
    assert sys.argv[1:] == [*expected, "--", "--debug", "~/literal"]


def test_paths_are_printed_as_they_are(capsys):
    console().print("runs/[x]/" + "a" * 300)
    assert capsys.readouterr().out == "runs/[x]/" + "a" * 300 + "\n"
