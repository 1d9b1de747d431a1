"""A method of one's own, given to a port as module:Class."""

import sys
from pathlib import Path

import pytest
from cases import present
from nets import same
from tiny import changed, loaded, logits, make, texts, trio

from symport.errors import SettingsError
from symport.port import make_settings, port_fine_tune

KIND = "LlamaForCausalLM"
OWN = """
from symport.methods import FGMT, Method, SinglePermutation, State, WeightMatching
from symport.spec import Permutation

class Mine(FGMT):
    name = "mine"

class ByWeights(WeightMatching):
    name = "by-weights"

class EachStep(Method[None]):
    name = "each-step"
    def init(self, problem):
        return State(Permutation.identity(problem.spec))
    def step(self, problem, state, step):
        return WeightMatching().init(problem)
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / "ownports.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("ownports", None)


def test_with_examples_it_is_matched_as_the_built_in_ones_are(tmp_path):
    files = trio(tmp_path, KIND)
    given = {**files, "folds": 0, "examples": texts(tmp_path / "x.jsonl")}
    names = {"fgmt": 2, "ownports:Mine": 2, "weights": 8, "ownports:EachStep": 2}
    found = {
        name: port_fine_tune(
            make_settings({**given, "method": name, "steps": steps, "out": str(tmp_path / name)})
        )
        for name, steps in names.items()
    }
    tensors = {name: loaded(KIND, one.folder).state_dict() for name, one in found.items()}
    assert same(tensors["fgmt"], tensors["ownports:Mine"])
    assert same(tensors["weights"], tensors["ownports:EachStep"])
    assert present(found["ownports:EachStep"].outcome).pick == "transfer"


def test_without_examples_it_must_have_one_permutation_and_take_no_gradient(tmp_path):
    files = trio(tmp_path, KIND)
    found = port_fine_tune(make_settings({**files, "method": "ownports:ByWeights"}))
    assert "units were aligned by ownports:ByWeights" in found.verdict[0]
    expected = logits(changed(make(KIND)), KIND)
    assert (logits(loaded(KIND, found.folder), KIND) - expected).abs().max() < 1e-5
    given = {**files, "out": str(tmp_path / "other")}
    with pytest.raises(SettingsError, match="ownports:EachStep has a permutation for each step"):
        port_fine_tune(make_settings({**given, "method": "ownports:EachStep"}))
    with pytest.raises(SettingsError, match="ownports:Mine matches gradients, which takes labell"):
        port_fine_tune(make_settings({**given, "method": "ownports:Mine"}))
    with pytest.raises(SettingsError, match="has no effect with --method ownports"):
        port_fine_tune(make_settings({**given, "method": "ownports:ByWeights", "unlabelled": "x"}))
    assert not Path(given["out"]).exists()
