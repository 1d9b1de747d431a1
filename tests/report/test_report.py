import base64
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from nets import accuracy, gradient, source, spec, weights
from nets_port import RULES, selection_problem

from symport.errors import FileError, SettingsError
from symport.methods import FGMT, Identity, transfer
from symport.report import (
    Curve,
    Section,
    draw,
    png,
    save_picture,
    transfer_sections,
    write_outcome,
    write_report,
)
from symport.selection import Outcome, header, rows_of, select

image = pytest.importorskip("matplotlib.image")


class Page(HTMLParser):
    """What a browser makes of a page: texts by tag, addresses, and whether every tag is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.addresses = [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag):
        return [text for name, text in self.texts if name == tag]


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def pixels(picture: bytes):
    return image.imread(io.BytesIO(picture))


def picture() -> bytes:
    return png(draw({"one": {"line": Curve([0, 1], [0, 1])}}, xlabel="step", ylabel="score"))


def test_a_report_is_one_page_that_needs_no_other(tmp_path):
    sections = [
        Section("Numbers", "Two of them.", ("name", "value"), [("θ", "1.5"), ("π", "–")]),
        Section("Curve", picture=picture()),
        Section("Words", "only"),
    ]
    write_report(tmp_path / "r.html", "A title", "First.\nSecond.", sections)
    page = read(tmp_path / "r.html")
    assert page.of("title") == page.of("h1") == ["A title"]
    assert page.of("h2") == ["Numbers", "Curve", "Words"]
    assert page.of("p") == ["First.\nSecond.", "Two of them.", "only"]
    assert page.of("th") == ["name", "value"]
    assert page.of("td") == ["θ", "1.5", "π", "–"]
    (address,) = page.addresses
    embedded = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert embedded == sections[1].picture
    assert "http" not in (tmp_path / "r.html").read_text()


def test_columns_of_words_wrap_and_the_others_do_not(tmp_path):
    rows = [("a", "1.5", "a long explanation")]
    write_report(
        tmp_path / "r.html", "T", "", [Section("S", "", ("x", "y", "how"), rows, words=(2,))]
    )
    text = (tmp_path / "r.html").read_text()
    assert '<td class="words">a long explanation</td>' in text
    assert "<td>1.5</td>" in text
    assert re.search(r"td\.words \{[^}]*white-space: normal", text)


def test_text_is_shown_not_interpreted(tmp_path):
    odd = "<script>alert(1)</script> & <b>"
    write_report(tmp_path / "r.html", odd, odd, [Section(odd, odd, (odd,), [(odd,)])])
    page = read(tmp_path / "r.html")
    assert [page.of(tag) for tag in ("h1", "h2", "th", "td")] == [[odd]] * 4
    assert not page.of("script")


def test_an_empty_summary_leaves_no_box(tmp_path):
    write_report(tmp_path / "r.html", "A title", "", [])
    assert not read(tmp_path / "r.html").of("p")


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(FileError, match="create the folder"):
        write_report(tmp_path / "no" / "r.html", "A title", "", [])
    with pytest.raises(FileError, match="create the folder"):
        save_picture(tmp_path / "no" / "p.png", b"")
    assert not list(tmp_path.iterdir())


def write_nothing(path):
    write_report(path / "r.html", "A title", "", [])


def draw_nothing(path):
    draw({"one": {}}, xlabel="", ylabel="")


@pytest.mark.parametrize(
    ("module", "what", "action"),
    [("jinja2", "reports", write_nothing), ("matplotlib", "pictures", draw_nothing)],
)
def test_what_is_not_installed_is_asked_for(module, what, action, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # what Python notes for "not there"
    with pytest.raises(SettingsError, match=rf"{what} need {module}: pip install 'symport\[report"):
        action(tmp_path)


def test_curves_are_drawn_as_they_are():
    panels = {
        "left": {"a": Curve([0, 1, 2], [3, 1, 2]), "b": Curve([0, 1], [5, 6])},
        "right": {"b": Curve([1, 2], [7, 8], spread=[0.5, 0.25])},
    }
    figure = draw(panels, xlabel="step", ylabel="score")
    left, right = figure.axes
    assert [axis.get_title() for axis in (left, right)] == ["left", "right"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("step", "score")
    drawn = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in left.lines}
    assert drawn == {"a": [[0, 3], [1, 1], [2, 2]], "b": [[0, 5], [1, 6]]}
    assert left.lines[1].get_color() == right.lines[0].get_color() != left.lines[0].get_color()
    (band,) = right.collections
    heights = {tuple(point) for point in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert {(1, 6.5), (1, 7.5), (2, 7.75), (2, 8.25)} <= heights
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["a", "b"]


def test_an_axis_may_be_logarithmic():
    panels = {"one": {"a": Curve([1, 10, 100], [1, 2, 3])}}
    for log_x, scale in ((True, "log"), (False, "linear")):
        figure = draw(panels, xlabel="labels", ylabel="accuracy", log_x=log_x)
        assert figure.axes[0].get_xscale() == scale


def test_the_picture_is_a_png_with_something_on_it(tmp_path):
    save_picture(tmp_path / "p.png", picture())
    content = (tmp_path / "p.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(np.unique(pixels(content).reshape(-1, 4), axis=0)) > 10
    assert picture() == content  # the same bytes every time, so results can be compared


def test_the_steps_of_a_transfer_become_a_table_and_a_curve():
    result = transfer(source(3), weights(2), spec(), FGMT(gradient()), score=accuracy)
    curve, steps = transfer_sections(result)
    assert curve.picture.startswith(b"\x89PNG")
    assert steps.header == [
        "step", "objective", "units moved", "score", "gradients", "seconds"
    ]  # fmt: skip
    for row, record in zip(steps.rows, result.history, strict=True):
        shown = dict(zip(steps.header, row, strict=True))
        assert shown["step"] == str(record.step)
        assert float(shown["score"]) == pytest.approx(record.score, abs=1e-3)
        assert float(shown["units moved"].rstrip("%")) == pytest.approx(100 * record.moved, abs=0.1)


def test_columns_that_say_nothing_are_left_out():
    (steps,) = transfer_sections(transfer(source(2), weights(2), spec(), Identity()))
    assert steps.header == ["step", "units moved", "gradients", "seconds"]
    assert [row[:3] for row in steps.rows] == [["1", "0.0%", "0"], ["2", "0.0%", "0"]]


@pytest.fixture(scope="module")
def found() -> Outcome:
    return select(selection_problem(), RULES, folder=None)


def test_the_report_of_a_selection_has_a_row_for_each_candidate(tmp_path, found):
    names = header(is_own_loss=False)
    write_outcome(tmp_path / "r.html", "A title", ["First.", "Second."], found, names, 0)
    page = read(tmp_path / "r.html")
    assert page.of("h1") == ["A title"]
    assert page.of("p")[0] == "First.\nSecond."
    assert "24 examples matched, chose and trained; 60 were held out" in page.of("p")[1]
    cells = page.of("td")
    for row in rows_of(found, 0):
        assert cells[cells.index(row.name) + 1] == f"{row.loss:.4f}"
    assert page.of("h2") == ["Results", "How far to go", "How long to train", "Steps"]
    assert len(page.addresses) == 2


def test_without_cross_validation_there_are_no_curves(tmp_path):
    rules = RULES.model_copy(update={"folds": 0})
    outcome = select(selection_problem(), rules, folder=None)
    write_outcome(tmp_path / "r.html", "A title", [], outcome, header(is_own_loss=False), 0)
    assert read(tmp_path / "r.html").of("h2") == ["Results", "Steps"]
