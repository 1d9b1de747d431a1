import sys
from typing import Any

import pytest
import torch
from nets import examples, gradient, net, planted_target, source, spec, trained, weights

from symport.errors import SettingsError
from symport.methods import (
    FGMT,
    REGISTRY,
    Available,
    Problem,
    SinglePermutation,
    explore,
    make_method,
    takes,
    transfer,
)
from symport.settings import METHODS, RENAMED_METHODS, Rules, checked, method_name

OWN = '''
from symport.methods import FGMT, Method, SinglePermutation, State
from symport.spec import Permutation

class Reversed(Method[None]):
    """Every step in the reverse order of the one before."""
    name = "reversed"
    def init(self, problem):
        return State(Permutation.identity(problem.spec))
    def step(self, problem, state, step):
        return State(Permutation({n: i.flip(-1) for n, i in state.permutation.indices.items()}))

class Mine(FGMT):
    name = "mine"
    def __init__(self, gradient, *, twist=3, **options):
        super().__init__(gradient, **options)
        self.twist = twist

class Nameless(SinglePermutation):
    def init(self, problem):
        return State(Permutation.identity(problem.spec))

class Greedy(Nameless):
    name = "greedy"
    def __init__(self, moon):
        self.moon = moon

class Failing(Nameless):
    name = "failing"
    def __init__(self):
        raise KeyError("inside")

def by_function(gradient, normalize):
    return FGMT(gradient, normalize=normalize, start="identity")

number = 3
'''


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / "ownmethods.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("ownmethods", None)


def everything() -> Available:
    return Available(
        gradient=lambda *, keep: gradient(),
        model=net(),
        inputs=lambda: [examples()[0]],
        permutation=planted_target()[1],
        target_final=trained(weights(2)),
    )


def test_the_names_of_the_commands_are_those_of_the_registry():
    """The help shows them without torch; a given permutation and the oracle are no flag's."""
    assert set(METHODS) == REGISTRY.keys() - {"given", "oracle"}
    assert not RENAMED_METHODS.keys() & REGISTRY.keys()


@pytest.mark.parametrize("name", REGISTRY)
def test_every_name_makes_the_method_of_that_name(name):
    method = make_method(name, everything())
    assert type(method) is REGISTRY[name]
    assert method.name == name
    assert len(explore(problem(), method).permutations) == 3


def problem():
    return Problem(source(3), weights(2), spec())


def test_a_constructor_gets_what_it_names_and_keeps_its_other_defaults():
    available = Available(
        gradient=lambda *, keep: gradient(), normalize=True, keep=torch.bfloat16, model=net()
    )
    method = make_method("fgmt", available)
    assert isinstance(method, FGMT)
    assert (method.normalize, method.keep, method.start) == (True, torch.bfloat16, "previous")
    own: Any = make_method("ownmethods:Mine", available)
    assert (own.normalize, own.twist, own.name) == (False, 3, "mine")
    by_function: Any = make_method("ownmethods:by_function", available)
    assert by_function.normalize is True


@pytest.mark.parametrize(
    ("name", "keep"), [("fgmt", False), ("gmt", True), ("ownmethods:Mine", True)]
)
def test_gradients_of_the_source_are_kept_where_they_may_be_asked_for_again(name, keep):
    asked = []

    def make(*, keep):
        asked.append(keep)
        return gradient()

    make_method(name, Available(gradient=make))
    assert asked == [keep]


def test_a_class_of_ones_own_is_a_method_wherever_a_name_is():
    method = make_method("ownmethods:Reversed", Available())
    result = transfer(source(2), weights(2), spec(), method)
    assert [record.moved for record in result.history] == [1.0, 0.0]
    same = make_method("symport.methods:FGMT", everything())
    assert isinstance(same, FGMT)
    assert not isinstance(method, SinglePermutation)


def test_what_a_method_takes_is_read_from_its_constructor():
    by_name = {name: (takes(name, "gradient"), takes(name, "inputs")) for name in METHODS}
    assert by_name == {
        "fgmt": (True, False),
        "gmt": (True, False),
        "weights": (False, False),
        "activations": (False, True),
        "identity": (False, False),
    }
    assert takes("ownmethods:Mine", "gradient")
    assert not takes("ownmethods:Reversed", "gradient")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("magic", "method 'magic' is none of fgmt, gmt, weights, activations, identity, nor mod"),
        ("naive", "the method naive is called identity now"),
        ("ownmethods:Nothing", "ownmethods:Nothing: .*no attribute"),
        ("nowhere:Method", "nowhere:Method: No module named 'nowhere'"),
        ("ownmethods:number", "is of type int, not a function"),
        ("ownmethods:Nameless", "the method has no name; give its class one"),
        ("ownmethods:Greedy", "the method ownmethods:Greedy needs 'moon', which is not available"),
        ("ownmethods:Failing", r"ownmethods:Failing\(\) fails with KeyError: 'inside'"),
        ("builtins:object", "builtins:object makes 'object', not a symport.methods.Method"),
        ("builtins:dict", "builtins:dict makes no method of symport: it has no signature"),
        ("oracle", "the method oracle needs 'target_final', which is not available here"),
    ],
)
def test_what_is_no_method_is_refused(name, message):
    with pytest.raises(SettingsError, match=message):
        make_method(name, Available())


def test_settings_refuse_names_in_the_same_words():
    assert checked(Rules, {"method": "ownmethods:Mine"}).method == "ownmethods:Mine"
    for name in ("magic", "naive"):
        with pytest.raises(SettingsError) as direct:
            method_name(name)
        with pytest.raises(SettingsError) as read:
            checked(Rules, {"method": name})
        assert str(read.value) == str(direct.value)
