import copy
import re
from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import pytest
import torch
from cases import (
    ATTENTION,
    CASES,
    CONCATENATION,
    CONVOLUTION,
    EXPERTS,
    GROUP_NORM,
    GROUPED_QUERIES,
    MLP,
    RECURRENT,
    Case,
    every_case,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional as F

from symport.errors import SpecError
from symport.spec import (
    Axis,
    Fixed,
    Group,
    Permutation,
    PermutationSpec,
    Product,
    Sum,
    Unit,
    compose,
    invert,
    parents,
    parse_pattern,
    permute,
    permute_optimizer,
)

# A witness that moves one element at a time. A place on an axis is a list of (group, coordinate);
# a coordinate moves by the row of its group that its parents' coordinates choose.

Place = list[tuple[str | None, int]]


def length_of(axis: Axis, spec: PermutationSpec) -> int:
    match axis:
        case Fixed(size):
            assert size is not None
            return size
        case Unit(group):
            return spec.groups[group].size
        case Product(factors):
            return int(np.prod([length_of(factor, spec) for factor in factors]))
        case Sum(parts):
            return sum(length_of(part, spec) for part in parts)


def place_of(axis: Axis, position: int, spec: PermutationSpec) -> Place:
    match axis:
        case Fixed():
            return [(None, position)]
        case Unit(group):
            return [(group, position)]
        case Product(factors):
            place: Place = []
            for factor in reversed(factors):
                position, inside = divmod(position, length_of(factor, spec))
                place = place_of(factor, inside, spec) + place
            return place
        case Sum(parts):
            for part in parts:
                if position < (size := length_of(part, spec)):
                    return place_of(part, position, spec)
                position -= size
            raise AssertionError


def position_of(axis: Axis, coordinates: list[int], position: int, spec: PermutationSpec) -> int:
    """The position with these coordinates (used up from the left), in the part where it lay."""
    match axis:
        case Fixed() | Unit():
            return coordinates.pop(0)
        case Product(factors):
            digits: list[int] = []
            for factor in reversed(factors):
                position, inside = divmod(position, length_of(factor, spec))
                digits.insert(0, inside)
            total = 0
            for factor, inside in zip(factors, digits, strict=True):
                total *= length_of(factor, spec)
                total += position_of(factor, coordinates, inside, spec)
            return total
        case Sum(parts):
            offset = 0
            for part in parts:
                if position < (size := length_of(part, spec)):
                    return offset + position_of(part, coordinates, position, spec)
                position -= size
                offset += size
            raise AssertionError


def moved(places: list[Place], axis: int, number: int, permutation: Permutation) -> int:
    group, coordinate = places[axis][number]
    if group is None:
        return coordinate
    row = permutation.indices[group]
    for parent in parents(group):
        here = [(k, value) for k, (name, value) in enumerate(places[axis]) if name == parent]
        left = [value for k, value in here if k < number]
        anywhere = [value for place in places for name, value in place if name == parent]
        row = row[(left[-1:] or [value for _, value in here] or anywhere)[0]]
    return int(row[coordinate])


def permuted_one_by_one(
    tensor: Tensor, pattern: str, spec: PermutationSpec, permutation: Permutation
) -> Tensor:
    axes = [
        Fixed(n) if axis == Fixed() else axis
        for axis, n in zip(parse_pattern(pattern), tensor.shape, strict=True)
    ]
    result = torch.empty_like(tensor)
    for target in product(*(range(n) for n in tensor.shape)):
        places = [place_of(axis, i, spec) for axis, i in zip(axes, target, strict=True)]
        source = tuple(
            position_of(
                axis,
                [moved(places, dim, k, permutation) for k in range(len(places[dim]))],
                target[dim],
                spec,
            )
            for dim, axis in enumerate(axes)
        )
        result[target] = tensor[source]
    return result


SIZES = {"a": 3, "b": 2, "h": 3, "h/u": 2, "h/u/w": 2, "h/v": 2, "g": 2}
PATTERNS = [
    ("", ()),
    (". .", (2, 3)),
    ("a b a", (3, 2, 3)),
    ("(a 2) (2 a)", (6, 6)),
    ("(a b)", (6,)),
    ("(a b + 2 + b)", (10,)),
    ("((a + b) 2)", (10,)),
    ("(2 (a + 1)) .", (8, 2)),
    ("(h h/u)", (6,)),
    ("(h/u h)", (6,)),
    ("(h 2 h/u) (h h/v)", (12, 6)),
    ("h h/u", (3, 2)),
    ("h/u h", (2, 3)),
    (". h/u h", (2, 2, 3)),
    ("h . h/u a", (3, 2, 2, 3)),
    ("(h h/u h/u/w)", (12,)),
    ("h h/u h/u/w", (3, 2, 2)),
    ("h/u/w h/u h", (2, 2, 3)),
    ("h (h/u h/u/w)", (3, 4)),
    ("(h h/u) h/u/w", (6, 2)),
    ("(h h/u) h/u", (6, 2)),
    ("(h h/u + h h/v + g)", (14,)),
    ("h (h/u + 2 + h/v)", (3, 6)),
    ("(h h/u) (h h/u)", (6, 6)),
    ("(h h/u h h/v)", (36,)),
    ("(b h) h/u", (6, 2)),
]


@pytest.mark.parametrize(("pattern", "shape"), PATTERNS, ids=[text for text, _ in PATTERNS])
def test_permuting_follows_the_definition_element_by_element(pattern: str, shape):
    spec = PermutationSpec({"x": parse_pattern(pattern)}, {n: Group(k) for n, k in SIZES.items()})
    x = torch.arange(int(np.prod(shape))).reshape(shape)
    for seed in range(3):
        permutation = Permutation.random(spec, seeded(seed))
        found = permute({"x": x}, spec, permutation)["x"]
        assert torch.equal(found, permuted_one_by_one(x, pattern, spec, permutation))


@every_case
def test_every_case_follows_the_definition_element_by_element(case: Case):
    permutation = Permutation.random(case.spec, seeded(1))
    params = case.draw(seeded(2))
    found = permute(params, case.spec, permutation)
    for name, pattern in case.patterns.items():
        expected = permuted_one_by_one(params[name], pattern, case.spec, permutation)
        assert torch.equal(found[name], expected), name


def test_permuting_a_network_is_multiplying_with_matrices():
    # Equation (1): (σ₁W₁, σ₂W₂σ₁⁻¹, W₃σ₂⁻¹)
    params = MLP.draw(seeded(0))
    permutation = Permutation.random(MLP.spec, seeded(1))
    s1, s2 = (np.eye(len(permutation.indices[g]))[permutation.indices[g]] for g in "ab")
    found = permute(params, MLP.spec, permutation)
    w1, w2, w3 = (params[name].numpy() for name in ("w1", "w2", "w3"))
    np.testing.assert_allclose(found["w1"], s1 @ w1, rtol=1e-6)
    np.testing.assert_allclose(found["w2"], s2 @ w2 @ s1.T, rtol=1e-6)
    np.testing.assert_allclose(found["w3"], w3 @ s2.T, rtol=1e-6)
    np.testing.assert_allclose(found["b1"], s1 @ params["b1"].numpy(), rtol=1e-6)


# The function of a network stays the same


def mlp(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    hidden = F.relu(x @ p["w1"].T + p["b1"])
    return F.gelu(hidden @ p["w2"].T + p["b2"]) @ p["w3"].T + p["b3"]


def convolution(p: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = F.relu(F.conv2d(x.reshape(-1, 2, 6, 6), p["w1"]))
    return F.relu(F.conv2d(hidden, p["w2"])).flatten(1) @ p["w3"].T


def concatenation(p: dict[str, Tensor], x: Tensor) -> Tensor:
    first = F.relu(x @ p["w1"].T)
    return torch.cat([first, F.relu(first @ p["w2"].T)], -1) @ p["w3"].T


def attention(p: dict[str, Tensor], x: Tensor) -> Tensor:
    stream = x @ p["embed"]
    q, k, v = (part.unflatten(-1, (2, -1)) for part in (stream @ p["qkv"].T).split(8, -1))
    weight = torch.einsum("bqhu,bkhu->bhqk", q, k).softmax(-1)
    mixed = torch.einsum("bhqk,bkhu->bqhu", weight, v).flatten(-2)
    return (stream + mixed @ p["out"].T) @ p["head"].T


def grouped_queries(p: dict[str, Tensor], x: Tensor) -> Tensor:
    stream = x @ p["embed"]
    q = (stream @ p["q"].T).unflatten(-1, (2, 2, 3))
    k, v = (stream @ p["k"].T).unflatten(-1, (2, 3)), (stream @ p["v"].T).unflatten(-1, (2, 2))
    angle = torch.arange(1.0, 1 + x.shape[1], dtype=x.dtype)  # stands for rotary positions
    weight = torch.einsum("bqgnu,bkgu,q,k,u->bgnqk", q, k, angle, angle, angle[:3]).softmax(-1)
    mixed = torch.einsum("bgnqk,bkgu->bqgnu", weight, v).flatten(-3)
    return (stream + mixed @ p["out"].T).norm(dim=-1)


def group_norm(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return F.group_norm(x @ p["w1"].T, 3, p["gain"]).tanh() @ p["w2"].T


def experts(p: dict[str, Tensor], x: Tensor) -> Tensor:
    stream = x @ p["embed"]
    gate = (stream @ p["router"].T).softmax(-1)
    hidden = F.silu(torch.einsum("bd,efd->bef", stream, p["up"]))
    return (stream + torch.einsum("bef,edf,be->bd", hidden, p["down"], gate)).norm(dim=-1)


def recurrent(p: dict[str, Tensor], x: Tensor) -> Tensor:
    network = nn.RNN(3, 6, bias=False, batch_first=True, dtype=torch.float64)
    network.load_state_dict({"weight_ih_l0": p["input"], "weight_hh_l0": p["hidden"]})
    return network(x)[0].detach() @ p["out"].T


NETWORKS: dict[str, tuple[Callable[[dict[str, Tensor], Tensor], Tensor], tuple[int, ...]]] = {
    MLP.name: (mlp, (5, 4)),
    CONVOLUTION.name: (convolution, (3, 72)),
    CONCATENATION.name: (concatenation, (5, 3)),
    ATTENTION.name: (attention, (2, 5, 9)),
    GROUPED_QUERIES.name: (grouped_queries, (2, 5, 7)),
    GROUP_NORM.name: (group_norm, (5, 4)),
    EXPERTS.name: (experts, (5, 6)),
    RECURRENT.name: (recurrent, (2, 5, 3)),
}


@every_case
def test_permuting_leaves_the_function_unchanged(case: Case):
    network, shape = NETWORKS[case.name]
    params = {name: tensor.double() for name, tensor in case.draw(seeded(0)).items()}
    x = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    expected = network(params, x)
    for seed in range(5):
        moved = permute(params, case.spec, Permutation.random(case.spec, seeded(seed)))
        assert not all(torch.equal(moved[name], params[name]) for name in params)
        torch.testing.assert_close(network(moved, x), expected, rtol=1e-10, atol=1e-11)


def test_batchnorm_moves_with_its_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    for tensor in (*model[1].parameters(), *model[1].buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 2)
    patterns = {
        **{f"1.{name}": "h" for name in ("weight", "bias", "running_mean", "running_var")},
        "0.weight": "h .",
        "0.bias": "h",
        "3.weight": ". h",
        "3.bias": ".",
        "1.num_batches_tracked": "",
    }
    spec = PermutationSpec.parse(patterns, model.state_dict())
    x = torch.randn(7, 4, dtype=torch.float64)
    expected = model.eval()(x)
    model.load_state_dict(permute(model.state_dict(), spec, Permutation.random(spec, seeded(3))))
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-13)


# The group


@every_case
def test_the_identity_gives_the_same_bits_in_new_memory(case: Case):
    params = {
        name: tensor.to(dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for name, tensor in case.draw(seeded(0)).items()
    }
    found = permute(params, case.spec, Permutation.identity(case.spec))
    assert list(found) == list(params)
    for name, tensor in params.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(torch.int16), tensor.view(torch.int16))
        assert found[name].data_ptr() != tensor.data_ptr()


@every_case
def test_a_composition_does_the_first_then_the_second(case: Case):
    spec, params = case.spec, case.draw(seeded(0))
    first, second = (Permutation.random(spec, seeded(seed)) for seed in (1, 2))
    both = compose(first, second)
    both.check(spec)
    one_by_one = permute(permute(params, spec, first), spec, second)
    found = permute(params, spec, both)
    assert all(torch.equal(found[name], one_by_one[name]) for name in params)


@every_case
def test_the_inverse_undoes(case: Case):
    spec, params = case.spec, case.draw(seeded(0))
    permutation = Permutation.random(spec, seeded(1))
    inverse = invert(permutation)
    inverse.check(spec)
    assert list(inverse.indices) == list(permutation.indices)
    back = permute(permute(params, spec, permutation), spec, inverse)
    assert all(torch.equal(back[name], params[name]) for name in params)
    identity = Permutation.identity(spec)
    assert compose(permutation, inverse).equal(identity)
    assert compose(inverse, permutation).equal(identity)
    assert invert(inverse).equal(permutation)


def deep_spec() -> PermutationSpec:
    groups = {"w/x/y": Group(2), "w/x": Group(3), "w": Group(2), "w/z": Group(2)}
    return PermutationSpec({"t": parse_pattern("(w w/x w/x/y + w w/z)")}, groups)


def test_three_levels_compose_and_invert():
    spec = deep_spec()
    x = {"t": torch.arange(16)}
    for seed in range(10):
        a, b, c = (Permutation.random(spec, seeded(3 * seed + k)) for k in range(3))
        assert compose(compose(a, b), c).equal(compose(a, compose(b, c)))
        assert invert(compose(a, b)).equal(compose(invert(b), invert(a)))
        there = permute(x, spec, compose(a, b))["t"]
        assert torch.equal(there, permute(permute(x, spec, a), spec, b)["t"])
        assert torch.equal(permute({"t": there}, spec, invert(compose(a, b)))["t"], x["t"])


def test_permutations_of_other_groups_do_not_compose():
    with pytest.raises(SpecError, match="the two permutations have different groups"):
        compose(Permutation({"a": torch.arange(2)}), Permutation({"b": torch.arange(2)}))


# Inputs


def test_inputs_are_never_modified():
    params, spec = ATTENTION.draw(seeded(0)), ATTENTION.spec
    before = copy.deepcopy(params)
    permutation = Permutation.random(spec, seeded(1))
    indices = copy.deepcopy(dict(permutation.indices))
    for tensor in permute(params, spec, permutation).values():
        tensor.zero_()
    invert(permutation)
    compose(permutation, permutation)
    assert all(torch.equal(params[name], before[name]) for name in params)
    assert all(torch.equal(permutation.indices[name], indices[name]) for name in indices)


def test_a_part_of_a_network_is_permuted_alone():
    params, spec = MLP.draw(seeded(0)), MLP.spec
    permutation = Permutation.random(spec, seeded(1))
    whole = permute(params, spec, permutation)
    part = permute({"w2": params["w2"]}, spec, permutation, partial=True)
    assert list(part) == ["w2"]
    assert torch.equal(part["w2"], whole["w2"])


@pytest.mark.parametrize("absent", [["w2"], ["b3", "w1"]])
def test_a_state_dict_that_lacks_tensors_is_refused_by_name(absent):
    params = MLP.draw(seeded(0))
    part = {name: tensor for name, tensor in params.items() if name not in absent}
    identity = Permutation.identity(MLP.spec)
    first = next(name for name in MLP.spec.patterns if name in absent)
    with pytest.raises(SpecError, match=rf"covers {first}.* lack: .*partial=True"):
        permute(part, MLP.spec, identity)
    assert list(permute(part, MLP.spec, identity, partial=True)) == list(part)


def test_tensors_of_any_layout_come_out_contiguous():
    x = torch.arange(6.0).reshape(2, 3).T
    spec = PermutationSpec({"x": parse_pattern("h h/u")}, {"h": Group(3), "h/u": Group(2)})
    permutation = Permutation.random(spec, seeded(0))
    found = permute({"x": x}, spec, permutation)["x"]
    assert found.is_contiguous()
    assert torch.equal(found, permute({"x": x.contiguous()}, spec, permutation)["x"])


def test_what_does_not_fit_is_refused():
    spec, params = MLP.spec, MLP.draw(seeded(0))
    identity = Permutation.identity(spec)
    with pytest.raises(SpecError, match="b1: axis 0 has length 5, but 'a' has length 6"):
        permute({**params, "b1": torch.zeros(5)}, spec, identity)
    with pytest.raises(SpecError, match="the spec has no pattern for extra"):
        permute({"extra": torch.zeros(5)}, spec, identity)
    with pytest.raises(SpecError, match="differ in the groups b"):
        permute(params, spec, Permutation({"a": torch.arange(6)}))
    with pytest.raises(SpecError, match=re.escape("group a: not a permutation of shape (6,)")):
        permute(params, spec, Permutation({**identity.indices, "a": torch.zeros(6).long()}))


# Optimizers


def trained(
    make: Callable[..., torch.optim.Optimizer], start: dict[str, Tensor], state: dict | None
) -> tuple[dict[str, Tensor], dict]:
    """Three steps on a fixed loss that a permutation of hidden units does not change."""
    params = {name: nn.Parameter(tensor.clone()) for name, tensor in start.items()}
    optimizer = make(params.values())
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))  # torch would train on in its tensors
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
    for _ in range(3):
        optimizer.zero_grad()
        mlp(params, x).square().sum().backward()
        optimizer.step()
    final = {name: parameter.detach() for name, parameter in params.items()}
    return final, optimizer.state_dict()


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9, weight_decay=0.1),
        lambda params: torch.optim.Adam(params, lr=0.01, amsgrad=True),
        lambda params: torch.optim.SGD(params, lr=0.01),
    ],
    ids=["momentum", "adam", "plain"],
)
def test_training_goes_on_as_if_it_had_not_been_permuted(make):
    spec = MLP.spec
    start = {name: tensor.double() for name, tensor in MLP.draw(seeded(0)).items()}
    middle, state = trained(make, start, None)
    expected, _ = trained(make, middle, state)
    permutation = Permutation.random(spec, seeded(1))
    moved = permute_optimizer(state, list(start), spec, permutation)
    found, _ = trained(make, permute(middle, spec, permutation), moved)
    for name, tensor in permute(expected, spec, permutation).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12)


def optimizer_state() -> dict:
    start = {name: tensor.double() for name, tensor in MLP.draw(seeded(0)).items()}
    return trained(lambda params: torch.optim.Adam(params), start, None)[1]


def test_the_given_optimizer_state_is_not_modified():
    state = optimizer_state()
    before = copy.deepcopy(state)
    permute_optimizer(state, list(MLP.shapes), MLP.spec, Permutation.random(MLP.spec, seeded(1)))
    assert all(
        torch.equal(slot[field], before["state"][key][field])
        for key, slot in state["state"].items()
        for field in slot
    )


def test_an_optimizer_of_another_network_is_refused():
    spec, identity = MLP.spec, Permutation.identity(MLP.spec)
    state = optimizer_state()
    with pytest.raises(SpecError, match="the optimizer holds 6 parameters, 2 names are given"):
        permute_optimizer(state, ["w1", "b1"], spec, identity)
    state["state"][0]["exp_avg"] = torch.zeros(6)
    with pytest.raises(
        SpecError, match=r"optimizer state 'exp_avg' of w1: w1: the pattern 'a \.' h"
    ):
        permute_optimizer(state, list(MLP.shapes), spec, identity)


def test_linked_axes_of_a_tensor_without_entries_keep_its_shape():
    tensors = {"w": torch.zeros(2, 3, 0), "v": torch.arange(6.0).reshape(2, 3)}
    spec = PermutationSpec.parse({"w": "h h/i .", "v": "h h/i"}, tensors)
    moved = permute(tensors, spec, Permutation.random(spec, seeded(0)))
    assert moved["w"].shape == (2, 3, 0)
    assert moved["v"].flatten().sort()[0].tolist() == list(range(6))


def test_every_case_has_a_network():
    assert set(NETWORKS) == {case.name for case in CASES}
