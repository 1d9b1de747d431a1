import pytest

from symport.progress import bar


def test_nothing_is_shown_unless_asked_for(capfd):
    with bar("matching", 3, show=False) as advance:
        advance("note")
    assert capfd.readouterr() == ("", "")


def test_the_bar_counts_and_names_what_is_done(capfd):
    with bar("matching", 3, show=True) as advance:
        for step in range(2):
            advance(f"score {step}")
    shown = capfd.readouterr()
    assert shown.out == ""  # results alone go to standard output
    assert all(text in shown.err for text in ("matching", "2/3", "left", "score 1"))


def test_what_is_done_already_counts(capfd):
    with bar("matching", 5, show=True, done=3) as advance:
        advance("")
    assert "4/5" in capfd.readouterr().err


def test_an_error_leaves_no_bar_behind(capfd):
    with pytest.raises(ValueError, match="broken"), bar("matching", 3, show=True):
        raise ValueError("broken")
    assert "matching" not in capfd.readouterr().err


def test_an_interruption_leaves_the_bar_where_it_stood(capfd):
    with pytest.raises(KeyboardInterrupt), bar("matching", 3, show=True, done=1):
        raise KeyboardInterrupt
    assert "1/3" in capfd.readouterr().err
