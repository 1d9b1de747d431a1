"""Gates of recurrent layers, and networks whose units are chosen by a router."""

import pytest
import torch
from elements import largest_change
from torch import nn
from torch.nn import functional as F

from symport.spec import show_pattern
from symport.symmetry import discover

X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


def find(net, *inputs):
    spec = discover(net, inputs, strict=True)
    return spec, {name: show_pattern(pattern) for name, pattern in spec.patterns.items()}


class Reader(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(4, 6, batch_first=True, **options)
        width = options.get("proj_size", 6) * (2 if options.get("bidirectional") else 1)
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_every_gate_and_the_recurrent_columns_share_one_permutation(kind, gates):
    spec, text = find(Reader(kind), X)
    assert text["rnn.weight_ih_l0"] == f"({gates} rnn.weight_ih_l0) ."
    assert text["rnn.weight_hh_l0"] == f"({gates} rnn.weight_ih_l0) rnn.weight_ih_l0"
    assert text["rnn.bias_hh_l0"] == f"({gates} rnn.weight_ih_l0)"
    assert text["last.weight"] == ". rnn.weight_ih_l0"
    assert spec.reasons["rnn.weight_ih_l0"] == {0: "gate", 1: "input axis"}


def test_a_plain_recurrent_layer_has_no_gates():
    _, text = find(Reader(nn.RNN, nonlinearity="relu"), X)
    assert text["rnn.weight_hh_l0"] == "rnn.weight_ih_l0 rnn.weight_ih_l0"


def test_both_directions_of_each_layer_have_their_own_units():
    spec, text = find(Reader(nn.LSTM, num_layers=2, bidirectional=True), X)
    assert len(spec.groups) == 4
    both = "(rnn.weight_ih_l0 + rnn.weight_ih_l0_reverse)"
    assert text["rnn.weight_ih_l1"].endswith(both)
    assert text["rnn.weight_ih_l1_reverse"].endswith(both)


def test_a_projected_lstm_has_units_and_projections():
    spec, text = find(Reader(nn.LSTM, proj_size=3), X)
    assert spec.sizes == {"rnn.weight_ih_l0": 6, "rnn.weight_hr_l0": 3}
    assert text["rnn.weight_hh_l0"] == "(4 rnn.weight_ih_l0) rnn.weight_hr_l0"


def test_last_states_in_one_tensor_tie_the_layers():
    class States(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.last = nn.GRU(4, 6, 2, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(self.rnn(x)[1].sum(0))

    spec, _ = find(States(), X)
    assert list(spec.sizes.values()) == [6]


def test_an_initial_state_that_is_learned_moves_with_the_units():
    class Started(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.last = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)
            self.start = nn.Parameter(torch.randn(1, 1, 6))

        def forward(self, x):
            start = self.start.expand(-1, x.shape[0], -1).contiguous()
            return self.last(self.rnn(x, start)[0].mean(1))

    _, text = find(Started(), X)
    assert text["start"] == f". . {text['last.weight'].split()[1]}"


def test_cells_in_a_loop():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.gru = nn.LSTMCell(4, 6), nn.GRUCell(4, 5)
            self.last = nn.Linear(11, 3)

        def forward(self, x):
            h = c = x.new_zeros(x.shape[0], 6)
            g = torch.zeros(x.shape[0], 5)
            for t in range(3):
                h, c = self.lstm(x[:, t], (h, c))
                g = self.gru(x[:, t], g)
            return self.last(torch.cat([h, g], -1))

    spec, text = find(Loop(), X)
    assert sorted(spec.sizes.values()) == [5, 6]
    assert text["last.weight"] == ". (lstm.weight_ih + gru.weight_ih)"


class Experts(nn.Module):
    """Three experts of 5 hidden units in one tensor, mixed by a router in several ways."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.router = nn.Linear(4, 6), nn.Linear(6, 3)
        self.up, self.bias = nn.Parameter(torch.randn(3, 6, 5)), nn.Parameter(torch.randn(3, 1, 5))
        self.down, self.last = nn.Parameter(torch.randn(3, 5, 7)), nn.Linear(7, 2)

    def all_experts(self, x):
        return torch.bmm(F.relu(torch.einsum("td,edf->etf", x, self.up) + self.bias), self.down)

    def forward(self, x):
        x = self.first(x).flatten(0, 1)
        share = self.router(x).softmax(-1)
        best, places = share.topk(2, -1)
        match self.how:
            case "dense":
                weights = share
            case "scatter":
                weights = torch.zeros_like(share).scatter(1, places, best)
            case "one-hot":
                weights = (F.one_hot(places, 3) * best[..., None]).sum(1)
            case "mask":
                weights = share.masked_fill(share < best[:, -1:], 0.0)
            case "gather":
                weights = torch.zeros_like(share).scatter(1, places, share.gather(1, places))
            case "rows":
                return self.last(self.by_rows(x, best, places.reshape(-1)))
        return self.last(torch.einsum("etd,te->td", self.all_experts(x), weights))

    def by_rows(self, x, best, places):
        x = x.repeat_interleave(2, 0)[:, None]
        y = F.relu(x @ self.up[places] + self.bias[places]) @ self.down[places]
        return (y.view(*best.shape, -1) * best[..., None]).sum(1)


@pytest.mark.parametrize("how", ["dense", "scatter", "one-hot", "mask", "gather", "rows"])
def test_experts_move_with_their_router_rows_and_units_inside_each(how):
    spec, text = find(Experts(how), X)
    experts = text["router.bias"]
    units = text["bias"].split()[2]
    assert text["router.weight"] == f"{experts} first"
    assert text["up"] == f"{experts} first {units}"
    assert text["down"].startswith(f"{experts} {units} ")
    assert units.startswith(f"{experts}/")
    assert spec.shape_of(units) == (3, 5)


class Chosen(Experts):
    """Each expert chooses four of the tokens, and what it makes of them is added to theirs."""

    def forward(self, x):
        x = self.first(x).flatten(0, 1)
        best, places = self.router(x).softmax(-1).t().topk(4, -1)
        rows = places.reshape(-1)
        given = x.gather(0, rows[:, None].expand(-1, 6)) if self.how == "gather" else x[rows]
        y = F.relu(given.view(3, 4, 6) @ self.up + self.bias) @ self.down * best[..., None]
        out, y = y.new_zeros(len(x), 7), y.reshape(-1, 7)
        match self.how:
            case "scatter":
                out = out.scatter_add(0, rows[:, None].expand(-1, 7), y)
            case "put":
                out = out.index_put((rows,), y, accumulate=True)
            case "one-hot":
                out = F.one_hot(rows, len(x)).to(y).T @ y
            case _:
                out = out.index_add(0, rows, y)
        return self.last(out)


@pytest.mark.parametrize("how", ["add", "gather", "scatter", "put", "one-hot"])
def test_experts_that_choose_their_tokens_move_with_what_they_choose(how):
    net = Chosen(how)
    spec, text = find(net, X)
    experts = text["router.bias"]
    assert text["router.weight"] == f"{experts} first"
    assert text["down"].split()[:2] == [experts, text["bias"].split()[2]]
    assert sorted(map(spec.shape_of, spec.groups)) == [(3,), (3, 5), (6,), (7,)]
    assert largest_change(net, spec, X) < 1e-12


class Pairs(nn.Module):
    """Units of the best expert meet those of another, in one or in two places."""

    def __init__(self, how):
        super().__init__()
        self.how, self.router = how, nn.Linear(4, 3)
        self.one, self.two = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(3, 5))

    def forward(self, x):
        scores = self.router(x[:, 0])
        best, worst = scores.argmax(-1), scores.argmin(-1)
        match self.how:
            case "the same expert":
                y = self.one[best] * self.two[best]
            case "another expert":
                y = self.one[best] * self.two[worst]
            case "two experts":
                y = (self.one[best][:, None] * self.two[scores.topk(2)[1]]).sum(1)
            case _:
                y = (self.one[best] * self.two[best]) * (scores.softmax(-1) @ self.one)
        return y.sum(-1)


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ("the same expert", (3, 5)),
        ("another expert", (5,)),
        ("two experts", (5,)),
        ("a mean of all", (5,)),
    ],
)
def test_units_are_free_in_each_expert_only_if_nothing_compares_those_of_two(how, shape):
    net = Pairs(how)
    with torch.device("meta"):
        empty = Pairs(how)
    spec, _ = find(net, X)
    assert discover(empty, (X,)).patterns == spec.patterns
    assert sorted(map(spec.shape_of, spec.groups), key=len) == sorted([(3,), shape], key=len)
    assert largest_change(net, spec, X) < 1e-12


def test_rows_that_are_copied_by_index_stay_since_the_last_one_wins():
    class Copied(Chosen):
        def forward(self, x):
            x = self.first(x).flatten(0, 1)
            places = self.router(x).t().topk(4, -1)[1].reshape(-1)
            y = self.all_experts(x)[:, :4].reshape(-1, 7)
            return self.last(y.new_zeros(len(x), 7).index_copy(0, places, y))

    spec, text = find(Copied("copy"), X)
    assert text["router.bias"] == "."
    assert spec.reasons["router.bias"][0] == "written in order"


def test_a_choice_that_is_joined_from_two_is_still_a_choice():
    class Twice(Experts):
        """The best expert, then the best of the others, as a sparse mixer takes them."""

        def forward(self, x):
            x = self.first(x).flatten(0, 1)
            scores = self.router(x)
            best, first = scores.max(-1, keepdim=True)
            others = scores.scatter(-1, first, float("-inf"))
            good, second = others.max(-1, keepdim=True)
            places = torch.cat((first, second), -1)
            best = torch.cat((best, good), -1).softmax(-1)
            return self.last(self.by_rows(x, best, places.reshape(-1)))

    net = Twice("rows")
    spec, text = find(net, X)
    assert text["router.bias"] == text["up"].split()[0]
    assert sorted(map(spec.shape_of, spec.groups)) == [(3,), (3, 5), (6,), (7,)]
    assert largest_change(net, spec, X) < 1e-12


def test_a_choice_that_is_joined_with_a_number_stays():
    class Shared(Experts):
        def forward(self, x):
            x = self.first(x).flatten(0, 1)
            best, places = self.router(x).max(-1, keepdim=True)
            places = torch.cat((places, torch.zeros_like(places)), -1)  # expert 0 is always asked
            best = torch.cat((best, torch.ones_like(best)), -1)
            return self.last(self.by_rows(x, best, places.reshape(-1)))

    net = Shared("rows")
    spec, text = find(net, X)
    assert text["router.bias"] == "."
    assert "used as numbers" in spec.reasons["router.bias"][0]
    assert largest_change(net, spec, X) < 1e-12


def test_experts_of_tensors_of_their_own_stay_with_a_reason_while_their_units_move():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.router, self.last = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(3)
            )

        def forward(self, x):
            x = self.first(x)
            share = self.router(x).softmax(-1)
            return self.last(sum(e(x) * share[..., k, None] for k, e in enumerate(self.experts)))

    spec, text = find(Listed(), X)
    assert text["router.weight"] == ". first"
    assert spec.reasons["router.bias"][0] == "each position is read on its own"
    assert sorted(spec.sizes.values()) == [5, 5, 5, 6, 6]


def test_experts_in_groups_are_a_wreath_product_of_routers():
    class Limited(Experts):
        def forward(self, x):
            x = self.first(x).flatten(0, 1)
            share = self.router(x).sigmoid()
            grouped = share.view(-1, 3, 2)
            best = grouped.topk(2, -1)[0].sum(-1)
            mask = torch.zeros_like(best).scatter(1, best.topk(2, -1)[1], 1.0)
            mask = mask[..., None].expand(-1, -1, 2).reshape(-1, 6)
            places = share.masked_fill(mask == 0, -1.0).topk(2, -1)[1]
            return self.last(self.by_rows(x, share.gather(1, places), places.reshape(-1)))

    net = Limited("rows")
    net.router, net.bias = nn.Linear(6, 6), nn.Parameter(torch.randn(6, 1, 5))
    net.up, net.down = nn.Parameter(torch.randn(6, 6, 5)), nn.Parameter(torch.randn(6, 5, 7))
    spec, text = find(net, X)
    outer, inner = text["router.bias"].strip("()").split()
    assert inner.startswith(f"{outer}/")
    assert spec.shape_of(inner) == (3, 2)
    assert spec.shape_of(text["bias"].split()[-1]) == (3, 2, 5)


def test_a_choice_that_is_used_as_a_number_keeps_the_experts_in_place():
    class Numbered(Experts):
        def forward(self, x):
            x = self.first(x).flatten(0, 1)
            places = self.router(x).argmax(-1)
            y = self.all_experts(x).sum(0) * places[:, None]
            return self.last(y)

    spec, text = find(Numbered("dense"), X)
    assert text["router.bias"] == "."
    assert "used as numbers" in spec.reasons["router.bias"][0]


def test_a_chosen_place_that_is_returned_stays():
    net = nn.Linear(4, 3)

    class Choice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            scores = self.net(x)
            return scores.argmax(-1), scores.amax(-1)

    spec, text = find(Choice(), X)
    assert text["net.weight"] == ". ."
    assert spec.groups == {}
