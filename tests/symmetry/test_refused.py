"""What cannot be traced is refused with a remedy that fits: the call, the selection or export."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from symport.errors import DiscoveryError, SymportError
from symport.spec import PermutationSpec
from symport.symmetry import discover, verify

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


@dataclass
class Answer:
    """An output class that torch does not know."""

    logits: Tensor


class Net(nn.Module):
    """A hidden layer, with something done to it."""

    def __init__(self, do=torch.relu):
        super().__init__()
        self.first, self.last, self.do = nn.Linear(4, 5), nn.Linear(5, 2), do

    def forward(self, x):
        return self.last(self.do(self.first(x)))


class Wrapped(Net):
    def forward(self, x):
        return Answer(super().forward(x))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.last = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.last(self.cell(packed)[1][-1])


def slope(x):
    return torch.autograd.grad((x**3).sum(), x)[0]


@pytest.mark.parametrize(
    ("do", "remedy"),
    [
        (lambda x: x if x.sum() > 0 else -x, "branches and loops on data"),
        (lambda x: x * int(x.abs().sum()), "branches and loops on data"),
        (slope, "Derivatives inside forward"),
        (lambda x: torch.from_numpy(x.numpy()) * 2, r"replace \.numpy\(\)"),
    ],
)
def test_each_failure_of_export_has_the_remedy_that_fits(do, remedy):
    with pytest.raises(DiscoveryError, match=rf"Net cannot be traced: .*{remedy}"):
        discover(Net(do), X)


def test_packed_sequences_are_named():
    example = (torch.randn(2, 3, 4), torch.tensor([3, 2]))
    with pytest.raises(DiscoveryError, match=r"Packed cannot be traced.*Packed sequences.*padded"):
        discover(Packed(), example)


def test_an_output_class_that_torch_does_not_know_names_select_which_solves_it():
    with pytest.raises(DiscoveryError, match=r"`select` that picks.*_pytree.*ModelOutput"):
        discover(Wrapped(), X)
    spec = discover(Wrapped(), X, select=lambda out: out.logits, strict=True)
    assert spec.sizes == {"first": 5}


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        (torch.zeros(3, 7), "shapes cannot be multiplied"),
        (torch.ones(3, 4, dtype=torch.int64), "dtype"),
        ({"y": X}, "unexpected keyword argument 'y'"),
        ((X, X), "takes 2 positional arguments but 3 were given"),
        ((), "missing 1 required positional argument"),
        ("text", "must be Tensor, not str"),
    ],
)
def test_wrong_inputs_are_told_by_the_call_itself(inputs, cause):
    with pytest.raises(DiscoveryError, match=rf"Net cannot be called with these inputs.*{cause}"):
        discover(Net(), inputs)
    if cause != "dtype":  # which torch does not look at where there is no memory
        with torch.device("meta"):
            outline = Net()
        with pytest.raises(DiscoveryError, match="Net cannot be called with these inputs"):
            discover(outline, inputs)


def test_a_branch_on_data_of_a_model_without_memory_is_not_blamed_on_the_inputs():
    with torch.device("meta"):
        outline = Net(lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(DiscoveryError, match=r"Net cannot be traced.*branches and loops on data"):
        discover(outline, X)


class Named(Net):
    def forward(self, x):
        return {"logits": super().forward(x), "kind": "linear"}


@pytest.mark.parametrize(
    ("select", "cause"),
    [
        (lambda out: out.logits, "AttributeError"),
        (lambda out: out["scores"], "KeyError: 'scores'"),
        (lambda out: out[0], "KeyError"),
    ],
)
def test_a_wrong_selection_is_told_with_what_there_is(select, cause):
    with pytest.raises(DiscoveryError, match=rf"`select` fails.*logits, kind: {cause}"):
        discover(Named(), X, select=select)


@pytest.mark.parametrize(
    "select",
    [
        lambda out: None, lambda out: out["kind"], lambda out: 3.0, lambda out: [],
        lambda out: torch.zeros(2), lambda out: {"a": (None, 1)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_selection_without_anything_to_compare_is_refused(select, device):
    with torch.device(device):
        net = Named()
    with pytest.raises(DiscoveryError, match="to compare"):
        discover(net, X.to(device), select=select)


def test_a_model_that_returns_its_inputs_has_nothing_to_compare():
    class Echo(Net):
        def forward(self, x):
            super().forward(x)
            return x * 2

    with pytest.raises(DiscoveryError, match=r"Echo returns no tensor that depends on its weights"):
        discover(Echo(), X)
    assert discover(nn.ReLU(), X).groups == {}  # without weights there is nothing to miss


def test_a_state_dict_for_a_model_and_missing_inputs_are_refused_with_what_to_pass():
    net, spec = Net(), PermutationSpec.parse({"w": "."})
    no_models: list[tuple[Any, str]] = [
        (net.state_dict(), r"not a state dict.*load_state_dict"),
        (Net.forward, "not a function"),
        (Net, "not a type"),
    ]
    for no_model, message in no_models:
        with pytest.raises(SymportError, match=message):
            discover(no_model, X)
    with pytest.raises(SymportError, match=r"Net: example inputs are needed"):
        discover(net)
    with pytest.raises(SymportError, match="not a state dict"):
        verify(spec, no_models[0][0], X)
    with pytest.raises(SymportError, match="example inputs are needed"):
        verify(spec, net, None)


def test_a_model_spread_over_devices_names_its_module():
    with pytest.raises(DiscoveryError, match=re.escape("`.module`")):
        discover(nn.DataParallel(Net()), X)


def test_one_line_says_it_all():
    for net, inputs in ((Net(slope), X), (Wrapped(), X), (Net(), {"y": X})):
        with pytest.raises(DiscoveryError) as caught:
            discover(net, inputs)
        assert "\n" not in str(caught.value)
