"""What can be traced, and how what cannot is refused."""

import pytest
import torch
from torch import nn

from symport.errors import DiscoveryError
from symport.symmetry import Example, discover, trace


class Net(nn.Module):
    """A linear layer between two others, with something done to its result."""

    def __init__(self, do):
        super().__init__()
        self.first, self.last, self.do = nn.Linear(4, 5), nn.Linear(5, 2), do
        self.register_buffer("order", torch.arange(5.0))

    def forward(self, x):
        return self.last(self.do(self.first(x)))


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def test_a_branch_on_data_is_refused_with_its_cause_and_a_remedy():
    net = Net(lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(DiscoveryError, match=r"Net cannot be traced.*torch\.where or masks"):
        discover(net, X)


@pytest.mark.parametrize(
    "count", [lambda x: int(x.abs().sum()) % 3, lambda x: (x > 0).sum().item()]
)
def test_a_loop_on_data_is_refused(count):
    def do(x):
        for _ in range(count(x)):
            x = x.relu()
        return x

    with pytest.raises(DiscoveryError, match=r"Net cannot be traced.*loops on data"):
        discover(Net(do), X)


def test_a_shape_that_depends_on_data_is_refused():
    net = Net(lambda x: x[x > 0].sum() + x)
    with pytest.raises(DiscoveryError, match=r"depends on data|cannot be traced"):
        discover(net, X)


def test_a_model_that_cannot_run_is_refused_with_its_own_error():
    with pytest.raises(DiscoveryError, match=r"cannot be called.*multiplied.*correct them"):
        discover(Net(torch.relu), torch.zeros(3, 7))


def test_in_place_operations_are_followed():
    def do(x):
        y = x.clone()
        y.relu_().mul_(2).add_(x)
        return y

    assert discover(Net(do), X, strict=True).sizes == {"first": 5}


@pytest.mark.parametrize("take", [torch.Tensor.type_as, torch.Tensor.to])
def test_the_type_of_another_tensor_ties_nothing_whatever_its_shape(take):
    assert discover(Net(lambda x: take(x, torch.ones(7, 3))), X, strict=True).sizes == {"first": 5}
    net = Net(lambda x: x.relu())
    net.do = lambda x: take(x, net.first.weight[:, :1].T * torch.arange(5.0)).relu()
    assert discover(net, X, strict=True).sizes == {"first": 5}


def test_writing_to_a_part_splits_the_units():
    def do(x):
        y = x * 1
        y[:, :2] = torch.tanh(y[:, :2])
        return y

    spec = discover(Net(do), X, strict=True)
    assert sorted(spec.sizes.values()) == [2, 3]


def test_a_buffer_that_counts_keeps_its_units_and_its_value():
    class Counting(Net):
        def forward(self, x):
            hidden = self.first(x).relu()
            self.order += hidden.mean(0).detach()
            return self.last(hidden)

    net = Counting(None)
    assert discover(net, X, strict=True).groups == {}
    assert torch.equal(net.order, torch.arange(5.0))


def test_writing_to_a_weight_is_refused():
    class Writing(Net):
        def forward(self, x):
            self.first.weight.data.mul_(0.5)
            return self.last(self.first(x))

    with pytest.raises(DiscoveryError, match="Writing cannot be traced"):
        discover(Writing(None), X)


def test_a_part_of_the_model_without_gradients_is_followed():
    def do(x):
        with torch.no_grad():
            y = x.exp()
        with torch.autocast("cpu", enabled=False):
            return x * y

    assert discover(Net(do), X, strict=True).sizes == {"first": 5}


def test_units_indexed_by_a_constant_stay():
    class Ordered(Net):
        def forward(self, x):
            return self.last(self.first(x) * self.order)

    spec = discover(Ordered(None), X)
    assert spec.groups == {}
    assert "buffer order" in spec.reasons["first.weight"][0]


def test_a_table_that_a_buffer_of_positions_reads_keeps_its_rows_and_moves_its_columns():
    class Placed(Net):
        places: torch.Tensor

        def __init__(self):
            super().__init__(None)
            self.table = nn.Embedding(8, 5)
            self.register_buffer("places", torch.arange(8))

        def forward(self, x):
            return self.last((self.first(x) + self.table(self.places[: len(x)])).relu())

    spec = discover(Placed(), X, strict=True)
    assert spec.sizes == {"first": 5}
    assert spec.patterns["table.weight"] == spec.patterns["last.weight"]
    assert "positions" in spec.reasons["table.weight"][0]


def test_random_numbers_and_order_along_units_keep_them_in_place():
    for do in (
        lambda x: x + torch.rand_like(x),
        lambda x: nn.functional.dropout(x, training=True),
        lambda x: x.cumsum(-1),
        lambda x: x.flip(-1),
        lambda x: x.sort(-1)[0] + x,
    ):
        assert discover(Net(do), X, strict=True).groups == {}


def test_a_module_used_twice_is_one_set_of_weights():
    inner = nn.Linear(5, 5)
    net = nn.Sequential(nn.Linear(4, 5), inner, nn.ReLU(), inner, nn.Linear(5, 2))
    spec = discover(net, X, strict=True)
    assert spec.sizes == {"h0": 5}
    assert spec.patterns["1.weight"] == spec.patterns["3.weight"]


def test_what_is_not_used_stays_and_says_so():
    net = Net(torch.relu)
    net.spare = nn.Linear(3, 3)
    spec = discover(net, X)
    assert "not used" in spec.reasons["spare.weight"][0]
    assert spec.sizes == {"first": 5}


@pytest.mark.filterwarnings("ignore")  # torch's own, about quantization
def test_packed_weights_are_refused_by_name():
    net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 5)), {nn.Linear})
    with pytest.raises(DiscoveryError, match=r"0\._packed_params.*before quantization"):
        discover(net, X)


def test_weights_of_eight_bits_move_with_their_units():
    class Small(Net):
        def __init__(self):
            super().__init__(torch.relu)
            self.eight = nn.Parameter(torch.randn(5, 4).to(torch.float8_e4m3fn), False)

        def forward(self, x):
            return self.last((x @ self.eight.to(x.dtype).T).relu())

    assert discover(Small(), X, strict=True).sizes == {"eight": 5}


def test_a_quantized_model_is_proven_or_refused():
    class Quantized(nn.Module):
        rows: torch.Tensor

        def __init__(self):
            super().__init__()
            self.register_buffer("rows", torch.randint(-8, 8, (5, 4), dtype=torch.int8))
            self.last = nn.Linear(5, 2)

        def forward(self, x):
            return self.last(x @ (self.rows.to(x.dtype) * 0.1).T)

    spec = discover(Quantized(), X, strict=True)
    assert spec.groups == {}
    assert "buffer rows" in spec.reasons["last.weight"][1]


def test_inputs_by_name_and_outputs_that_are_chosen():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x, scale):
            hidden = torch.relu(self.first(x) * scale)
            return {"hidden": hidden, "logits": self.last(hidden)}

    inputs = {"scale": torch.ones(()), "x": X}
    assert discover(Two(), inputs, strict=True).groups == {}
    spec = discover(Two(), inputs, strict=True, select=lambda out: out["logits"])
    assert spec.sizes == {"first": 5}


def test_the_record_names_tensors_shapes_and_outputs():
    graph = trace(nn.Linear(4, 2), Example.of(X))
    (operation,) = graph.operations
    assert operation.shapes == (3, 2)
    assert graph.outputs == [operation.name]
    assert {(s.kind, s.target) for s in graph.sources.values()} == {
        ("weight", "weight"), ("weight", "bias"), ("input", "input"),
    }  # fmt: skip


def test_buffers_of_batch_norm_are_constants_if_read_otherwise():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)

        def forward(self, x):
            return self.last(self.norm(self.first(x)) + self.norm.running_mean)

    spec = discover(Odd(), X, strict=True)
    assert spec.groups == {}
    assert spec.buffers <= {"norm.running_var"}


def test_a_tensor_without_entries_stays_and_so_does_what_it_is_joined_to():
    spare = nn.Parameter(torch.zeros(0, 5))
    net = Net(lambda x: torch.cat([x, spare * 2]).relu())
    net.spare = spare
    spec = discover(net, X, strict=True)
    assert spec.groups == {}
    assert spec.reasons["first.weight"][0] == "no entries"


def test_written_and_uninitialised_entries():
    def do(x):
        y = torch.empty_like(x)
        y.copy_(x.tanh())
        y.mul_(torch.empty(5).fill_(2.0))
        return y

    assert discover(Net(do), X, strict=True).sizes == {"first": 5}
