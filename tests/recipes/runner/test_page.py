from dataclasses import replace

import pytest
from outcomes import OUTCOMES
from smallscenes import SMALL

from symport.model import LandscapePlane
from symport_recipes.experiments import Curves
from symport_recipes.runner import Found, Recipe, Result, write_page
from symport_recipes.runner._page import comparison, cost_rows, curve_table, named
from symport_recipes.runner._pairs import Outcome
from symport_recipes.runner._pictures import curves, picture

RECIPE = Recipe(
    name="one",
    title="Figure 1: one",
    scales={"smoke": Curves(scene=SMALL)},
    costs={"smoke": "seconds"},
    published={"fgmt, last": 80.0, "fgmt, at 1": 40.0, "target": 91.5, "gmt, last": 3.0},
    note="A note.",
)


RESULT = Result(RECIPE, "smoke", OUTCOMES)


def test_a_row_has_the_published_number_ours_and_the_difference():
    assert comparison(RESULT) == [
        ["fgmt, last", "80", "85.0\u2009±\u20097.1", "+5.0"],
        ["fgmt, at 1", "40", "50.0\u2009±\u20090.0", "+10.0"],
        ["target", "91.5", "90.0\u2009±\u20090.0", "-1.5"],
    ]


def test_a_number_is_found_by_its_name():
    assert named(OUTCOMES[0], "fgmt, best") == 0.8
    assert named(OUTCOMES[0], "barrier") == 0.25
    assert named(OUTCOMES[0], "fgmt, at 7") is None
    assert named(OUTCOMES[0], "oracle, last") is None


def test_curves_and_costs_are_means_over_pairs():
    assert curve_table(RESULT)[2] == (
        "| fgmt | 10.0\u2009±\u20090.0 | 50.0\u2009±\u20090.0 | 85.0\u2009±\u20097.1 |"
    )
    assert cost_rows(OUTCOMES) == [["fgmt", "4", "1.5"], ["training", "–", "60.0"]]
    assert curves(OUTCOMES)["fgmt"].y == pytest.approx([0.1, 0.5, 0.85])


def test_the_page_shows_pictures_notes_and_the_command(tmp_path):
    page = tmp_path / "paper.md"
    write_page(page, [replace(RESULT, scale="cpu")])
    text = page.read_text(encoding="utf-8")
    assert "`symport-recipes run one --scale cpu --seeds 2`" in text
    assert "2 pairs of seeds, 3 minutes" in text
    assert "A note." in text
    assert "| source | 95.0\u2009±\u20090.0 |" in text
    assert "| target | 90.0" not in text  # it stands beside the published one already
    drawn = tmp_path / "paper-pictures" / "one-cpu.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert "(paper-pictures/one-cpu.png)" in text


def test_at_smoke_scale_nothing_is_compared_with_the_paper(tmp_path):
    write_page(tmp_path / "page.md", [RESULT])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| published |" not in text
    assert "| target | 90.0\u2009±\u20090.0 |" in text


def test_what_has_no_curves_has_no_picture_and_a_plane_has_contours():
    bare = Outcome(0, {}, Found(shares={"a": 0.5}), {"torch": "2.0"})
    assert picture(RECIPE, [bare]) == b""
    plane = LandscapePlane((0.0, 1.0), (0.0, 1.0), ((0, 1), (1, 2)), ((0, 0), (1, 0), (0.5, 1)))
    shown = Outcome(0, {}, Found(plane=plane), {"torch": "2.0"})
    assert picture(RECIPE, [shown]).startswith(b"\x89PNG")
