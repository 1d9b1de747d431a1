"""What the report and the model card of a port show, against what was computed by hand."""

import re
from html import unescape

import pytest
from nets import labelled, source
from nets_port import RULES, loss_of, selection_problem

from symport.port import _report_page as page
from symport.port import make_settings
from symport.port._model_card import write_card
from symport.report import _sections as sections
from symport.selection import rows_of, select

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return select(selection_problem(), RULES, folder=tmp_path_factory.mktemp("work"))


def settings(**options):
    names = {"old_base": "A", "tuned": "A-tuned", "new_base": "B", "out": "out"}
    return make_settings({**names, **options})


def tables(path):
    """The cells of each table, row by row, under the heading before it."""
    found = {}
    for heading, body in re.findall(r"<h2>(.*?)</h2>(.*?)(?=<h2>|</body>)", path.read_text(), re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
        cells = [[unescape(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t", row)] for row in rows]
        found[heading] = cells
    return found


def test_the_old_base_and_its_fine_tune_have_rows(tmp_path, outcome):
    page.write_page(tmp_path / "r.html", settings(), ["Good."], outcome)
    header, *rows = tables(tmp_path / "r.html")["Results"]
    assert header == ["", "loss (nats)", "accuracy", "share of lift", "how"]
    reporting = labelled(60, seed=7)
    shown = {name: float(loss) for name, loss, *_ in rows}
    assert shown["the old base"] == pytest.approx(loss_of(source(3)[0], reporting), abs=1e-4)
    assert shown["its fine-tune"] == pytest.approx(loss_of(source(3)[-1], reporting), abs=1e-4)
    assert [name for name, *_ in rows][2] == "the untouched new base"
    write_card(tmp_path, settings(), ["Good."], rows_of(outcome, 0))
    assert "| the old base | " in (tmp_path / "README.md").read_text()


def test_settings_are_a_table_of_two_columns(tmp_path):
    page.write_page(tmp_path / "r.html", settings(accept=("hidden_act",)), ["Good."], None)
    header, *rows = tables(tmp_path / "r.html")["Settings"]
    assert header == ["setting", "value"]
    shown = dict(rows)
    assert shown["old_base"] == "A"
    assert shown["scales"] == "1.25, 1.5, 2.0"
    assert shown["accept"] == "hidden_act"
    assert shown["normalize"] == "true"
    assert shown["examples"] == "–"


@pytest.mark.parametrize(("loss", "unit"), [(None, " (nats)"), ("losses:mine", "")])
def test_axes_say_percent_and_nats(tmp_path, monkeypatch, outcome, loss, unit):
    drawn = {}
    draw = sections.draw

    def watched(panels, **labels):
        ((title, curves),) = panels.items()
        drawn[title] = labels | {"farthest": max(x for c in curves.values() for x in c.x)}
        return draw(panels, **labels)

    monkeypatch.setattr(sections, "draw", watched)
    page.write_page(tmp_path / "r.html", settings(loss=loss), ["Good."], outcome)
    assert drawn["How far to go"]["xlabel"] == "share of the displacement (%)"
    assert drawn["How far to go"]["farthest"] == pytest.approx(150)  # lengths up to 1.5
    assert drawn["How long to train"]["xlabel"] == "steps of training"
    assert {labels["ylabel"] for labels in drawn.values()} == {f"cross-validated loss{unit}"}
