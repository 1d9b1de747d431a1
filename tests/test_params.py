import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from symport import params as module
from symport.errors import ParamsError
from symport.params import (
    add,
    check_finite,
    check_same_structure,
    inner,
    interpolate,
    listed,
    norm,
    subtract,
)


def network(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(4, 3, generator=generator).to(dtype),
        "bias": torch.randn(4, generator=generator).to(dtype),
        "num_batches_tracked": torch.tensor(seed),
    }


def test_add_follows_numpy_and_keeps_the_first_counts():
    a, b = network(1), network(2)
    result = add(a, b, -0.5)
    np.testing.assert_allclose(result["weight"], a["weight"].numpy() - 0.5 * b["weight"].numpy())
    assert result["num_batches_tracked"].item() == 1
    assert list(result) == list(a)


def test_add_of_a_part_clones_the_rest():
    a = network(1)
    result = add(a, {"bias": torch.ones(4)}, 2.0)
    assert torch.equal(result["bias"], a["bias"] + 2)
    assert torch.equal(result["weight"], a["weight"])
    assert all(result[name].data_ptr() != a[name].data_ptr() for name in a)


def test_add_undoes_subtract():
    a, b = network(1, torch.float64), network(2, torch.float64)
    back = add(b, subtract(a, b))
    torch.testing.assert_close(back["weight"], a["weight"], rtol=0, atol=1e-15)


def test_subtract_follows_numpy():
    a, b = network(1), network(2)
    np.testing.assert_array_equal(
        subtract(a, b)["bias"], np.subtract(a["bias"].numpy(), b["bias"].numpy())
    )


@pytest.mark.parametrize("fraction", [-0.5, 0.0, 0.3, 1.0, 2.0])
def test_interpolation_follows_the_formula(fraction: float):
    a, b = network(1, torch.float64), network(2, torch.float64)
    expected = (1 - fraction) * a["weight"].numpy() + fraction * b["weight"].numpy()
    np.testing.assert_allclose(interpolate(a, b, fraction)["weight"], expected, rtol=1e-14)


def test_interpolation_gives_its_ends_bit_by_bit():
    a = {"w": torch.tensor([-0.0, 0.1, torch.inf])}
    b = {"w": torch.tensor([1.0, -0.0, 3e-45])}
    for fraction, end in ((0, a), (1, b)):
        result = interpolate(a, b, fraction)["w"]
        assert torch.equal(result.view(torch.int32), end["w"].view(torch.int32))
        assert result.data_ptr() != end["w"].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_dtypes_are_summed_in_float32_and_rounded_once(dtype: torch.dtype):
    a, b = network(1, dtype), network(2, dtype)
    result = add(a, b, 0.3)["weight"]
    expected = (a["weight"].double() + 0.3 * b["weight"].double()).to(dtype)
    assert result.dtype == dtype
    assert torch.equal(result.float(), expected.float())
    naive = a["weight"] + 0.3 * b["weight"] if dtype.itemsize == 2 else None
    assert naive is None or not torch.equal(result, naive)


def test_complex_tensors_count_as_pairs_of_real_numbers():
    a = {"w": torch.tensor([1 + 2j, 3 - 1j])}
    b = {"w": torch.tensor([2 - 1j, 1 + 1j])}
    assert inner(a, b) == pytest.approx(np.vdot(a["w"].numpy(), b["w"].numpy()).real)
    assert norm(a) == pytest.approx(15**0.5)
    assert subtract(a, b)["w"].tolist() == [-1 + 3j, 2 - 2j]


def test_inner_is_accumulated_in_float64():
    big = torch.full((3,), 1e8)
    a = {"w": torch.cat([big, torch.ones(1), -big]), "n": torch.tensor(7)}
    b = {"w": torch.ones(7), "n": torch.tensor(9)}
    assert inner(a, b) == 1.0  # float32 sums lose the 1 beside 3e8


def test_inner_of_pieces_is_the_inner_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    a, b = network(1), network(2)
    whole = sum(
        float(np.vdot(a[name].double().numpy(), b[name].double().numpy()))
        for name in ("weight", "bias")
    )
    monkeypatch.setattr(module, "CHUNK", 5)
    assert inner(a, b) == pytest.approx(whole, rel=1e-14)


def test_norm_is_that_of_the_flattened_network():
    a = network(3)
    flat = torch.cat([a["weight"].flatten(), a["bias"]]).double()
    assert norm(a) == pytest.approx(float(flat.norm()), rel=1e-14)
    assert norm({}) == 0.0


def test_results_carry_no_gradient_and_operands_stay():
    model = nn.Linear(3, 2)
    own = dict(model.named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in own.items()}
    for result in (add(own, own), subtract(own, own), interpolate(own, own, 0.5)):
        assert not any(tensor.requires_grad for tensor in result.values())
    assert all(torch.equal(own[name], before[name]) for name in own)


def test_tensors_of_other_layouts_take_part():
    a = {"w": torch.arange(6.0).reshape(2, 3).T, "empty": torch.zeros(0), "scalar": torch.ones(())}
    assert inner(a, a) == 56.0
    assert torch.equal(add(a, a)["w"], 2 * a["w"])


@pytest.mark.parametrize("operation", [subtract, inner, lambda a, b: interpolate(a, b, 0.5)])
def test_operands_of_other_names_or_shapes_are_refused(operation):
    with pytest.raises(ParamsError, match="the second lacks bias"):
        operation(network(1), {"weight": torch.zeros(4, 3)})
    odd = {**network(1), "bias": torch.zeros(5)}
    with pytest.raises(ParamsError, match=re.escape("bias: its shape is (4,) in the first")):
        operation(network(1), odd)


def test_add_refuses_what_the_first_operand_lacks():
    with pytest.raises(ParamsError, match="cannot add gamma: the first operand has no such"):
        add(network(1), {"gamma": torch.ones(1)})
    with pytest.raises(ParamsError, match=re.escape("(4,) in the first operand, (1,) in the sec")):
        add(network(1), {"bias": torch.ones(1)})


def test_integers_are_never_cast_silently():
    with pytest.raises(ParamsError, match=r"bias: its dtype is torch\.float32 .* torch\.int64"):
        add(network(1), {"bias": torch.ones(4, dtype=torch.int64)})


def test_check_alike_says_which_side_lacks_what():
    a, b = network(1), network(2)
    check_same_structure(a, dict(reversed(b.items())), "the source", "the target")
    with pytest.raises(ParamsError, match="the target lacks weight, bias, which the source has"):
        check_same_structure(
            a, {"num_batches_tracked": a["num_batches_tracked"]}, "the source", "the target"
        )
    with pytest.raises(ParamsError, match="the source lacks extra, which the target has"):
        check_same_structure(a, {**b, "extra": torch.ones(1)}, "the source", "the target")


def test_check_alike_compares_dtypes_unless_told_otherwise():
    a, b = network(1), network(2, torch.float64)
    with pytest.raises(ParamsError, match=r"weight: .*float32 in A, torch\.float64 in B; convert"):
        check_same_structure(a, b, "A", "B")
    check_same_structure(a, b, "A", "B", dtypes=False)


def test_check_finite_counts_what_is_wrong():
    bad = network(1)
    check_finite(bad, "step 3")
    bad["weight"][0, 0], bad["weight"][1, 2] = torch.nan, -torch.inf
    with pytest.raises(ParamsError, match="weight: 2 of 12 values of step 3 are NaN or inf"):
        check_finite(bad, "step 3")


def test_check_finite_reads_eight_bit_formats():
    check_finite({"w": torch.ones(3).to(torch.float8_e5m2)}, "step 0")


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (list("abcdefg"), "a, b, c, d, e and 2 more")]
)
def test_listed_shows_the_first_few(names: list[str], text: str):
    assert listed(names) == text
