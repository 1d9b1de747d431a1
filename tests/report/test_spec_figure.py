import numpy as np
import pytest
from cases import ATTENTION, MLP

from symport.errors import SettingsError
from symport.report import draw_spec
from symport.spec import PermutationSpec


def test_a_mark_stands_for_each_axis_that_moves_with_a_group():
    (axes,) = draw_spec(MLP.spec).axes
    # w1 a, b1 a, w2 b (axis 0), b2 b; w2 a, w3 b (axis 1)
    assert [len(np.asarray(marks.get_offsets())) for marks in axes.collections] == [4, 2]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a (6)", "b (5)"]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(MLP.patterns)


def test_a_nested_group_stands_beside_its_parent():
    (axes,) = draw_spec(ATTENTION.spec).axes
    groups = [text.get_text() for text in axes.get_xticklabels()]
    assert groups == [f"{name} ({g.size})" for name, g in ATTENTION.spec.groups.items()]


def test_what_cannot_be_drawn_is_refused():
    fixed = PermutationSpec.parse({"w": ". ."})
    with pytest.raises(SettingsError, match="0 groups over 1 tensors cannot be drawn"):
        draw_spec(fixed)
    wide = PermutationSpec.parse({f"w{k}": "h" for k in range(401)}, sizes={"h": 2})
    with pytest.raises(SettingsError, match="at most 400 tensors"):
        draw_spec(wide)
