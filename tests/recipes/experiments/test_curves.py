from dataclasses import replace

import pytest
import torch
from smallscenes import SMALL

import symport
from symport_recipes.experiments import Curves, Sensitivity
from symport_recipes.experiments._curves import direct, method_of, walk
from symport_recipes.setups import Bench, draw, network

ANEW = Bench()


def test_every_method_is_scored_after_every_step_from_the_same_target(tmp_path):
    found = Curves(scene=SMALL).pair(0, Bench(tmp_path))
    assert list(found.curves) == ["naive", "oracle", "gmt", "fgmt", "direct"]
    assert {len(scores) for scores in found.curves.values()} == {3}
    assert len({scores[0] for scores in found.curves.values()}) == 1
    assert found.evaluations["naive"] == 0
    assert found.evaluations["fgmt"] == found.evaluations["direct"] == 4
    assert found.evaluations["gmt"] <= 2 * 3
    assert Curves(scene=SMALL).pair(0, Bench(tmp_path)).curves == found.curves


@pytest.mark.parametrize("name", ["naive", "oracle", "gmt", "fgmt"])
def test_a_walk_ends_where_transfer_does(name):
    at = draw(SMALL, 0, ANEW)
    target = network(SMALL, 100, ANEW).final
    spec = at.problem().spec
    expected = symport.transfer(at.linear(), at.target_init, spec, method_of(name, at, target))
    walked = walk(at, at.problem(), method_of(name, at, target))
    assert walked.scores[-1] == at.accuracy(expected.params)
    assert walked.evaluations == expected.evaluations


def test_direct_training_sees_two_gradients_a_step():
    at = draw(replace(SMALL, steps=4), 0, ANEW)
    done = direct(at)
    state = {name: tensor.clone().requires_grad_() for name, tensor in at.target_init.items()}
    rule = torch.optim.Adam(state.values(), lr=1e-3)
    for step in range(8):
        inputs, labels = at.batches[step % 4]
        outputs = torch.func.functional_call(at.model, state, inputs)
        rule.zero_grad()
        torch.nn.functional.cross_entropy(outputs, labels).backward()
        rule.step()
    assert (len(done.scores), done.evaluations) == (5, 8)
    assert done.scores[-1] == pytest.approx(at.accuracy(state), abs=0.01)


def test_two_lines_have_a_curve_each(tmp_path):
    both = Curves(scene=SMALL, methods=("naive",), lines=("linear", "recorded"))
    found = both.pair(0, Bench(tmp_path))
    assert list(found.curves) == ["naive, linear", "naive, recorded", "direct"]
    linear, recorded = (found.curves[f"naive, {line}"] for line in ("linear", "recorded"))
    assert linear[-1] == recorded[-1]  # both end in the trained source
    assert linear[1] != recorded[1]


def test_sensitivity_has_a_transfer_for_each_value(tmp_path):
    bench = Bench(tmp_path)
    found = Sensitivity(scene=SMALL, of="steps", values=(1, 2)).pair(0, bench)
    whole = Curves(scene=SMALL, methods=("fgmt",)).pair(0, bench).curves["fgmt"]
    assert found.x == [1, 2]
    assert found.curves["fgmt, last step"][1] == whole[-1]
    assert found.curves["fgmt, best step"][1] == max(whole)
    assert found.evaluations == {"fgmt, steps 1": 2, "fgmt, steps 2": 4}
