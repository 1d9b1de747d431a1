import pytest

from symport.errors import SpecError
from symport.terminal import console, run_app


def test_an_error_raised_on_purpose_is_one_line_and_exit_code_1(capsys):
    def app() -> None:
        raise SpecError("first\n  [bold]second[/bold] :smile: " + "long " * 50)

    with pytest.raises(SystemExit, match="1"):
        run_app(app)
    said = capsys.readouterr().err
    assert said.startswith("error: first [bold]second[/bold] :smile: long long")
    assert said.count("\n") == 1


def test_an_error_of_ours_stays_whole():
    def app() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_app(app)


def test_paths_are_printed_as_they_are(capsys):
    console().print("runs/[x]/" + "a" * 300)
    assert capsys.readouterr().out == "runs/[x]/" + "a" * 300 + "\n"
