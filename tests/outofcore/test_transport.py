"""Transporting against the formula in float64, to the bit where nothing changes, and bad input."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from symport.errors import ParamsError, SpecError
from symport.io import open_checkpoint, write_checkpoint
from symport.outofcore import outline_of, transport
from symport.spec import Permutation, PermutationSpec, permute

SHAPES = {"embed": (7, 6), "up": (10, 6), "down": (6, 10), "conv": (6, 10, 1, 3), "heads": (8, 6)}
SPEC = PermutationSpec.parse(
    {
        "embed": ". d",
        "up": "(h h/u) d",
        "down": "d (h h/u)",
        "conv": "d (h h/u) . .",
        "heads": "(k k/u) d",
        "linked": "k k/u",
        "gain": "d",
        "scale": "",
        "mean": "d",
        "count": "",
        "score": ". d",
    },
    sizes={"h": 5, "h/u": 2, "d": 6, "k": 4, "k/u": 2},
    buffers=["mean"],
)


def base(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = Generator().manual_seed(seed)
    shapes = {**SHAPES, "linked": (4, 2), "gain": (6,), "scale": (), "mean": (6,)}
    params = {n: torch.randn(s, generator=generator).to(dtype) for n, s in shapes.items()}
    return {**params, "count": torch.tensor(seed)}


def drawn() -> Permutation:
    return Permutation.random(SPEC, Generator().manual_seed(9))


def formula(old, tuned, new, permutation, scale: float) -> dict[str, Tensor]:
    """In float64, on whole dicts."""
    names = [n for n in new if n not in ("mean", "count")]
    change = permute(
        {n: tuned[n].double() - old[n].double() for n in names}, SPEC, permutation, partial=True
    )
    moved = {n: (new[n].double() + scale * change[n]).to(new[n].dtype) for n in names}
    return {**new, **moved}


@pytest.mark.parametrize("scale", [1.0, 0.4, -0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_transport_is_the_formula(dtype: torch.dtype, scale: float):
    old, tuned, new = (base(seed, dtype) for seed in range(3))
    found = dict(transport(old, tuned, new, SPEC, drawn(), scale=scale))
    assert list(found) == list(tuned)
    expected = formula(old, tuned, new, drawn(), scale)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, msg=name)
    torch.testing.assert_close(old, base(0, dtype), rtol=0, atol=0)


def test_rows_in_several_runs_give_the_same(monkeypatch):
    old, tuned, new = (base(seed) for seed in range(3))
    whole = dict(transport(old, tuned, new, SPEC, drawn()))
    monkeypatch.setattr("symport.outofcore._row_blocks.CHUNK", 13)
    runs = dict(transport(old, tuned, new, SPEC, drawn()))
    assert all(torch.equal(runs[name], tensor) for name, tensor in whole.items())


def test_files_give_the_same_as_memory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("symport.outofcore._row_blocks.CHUNK", 13)
    models = [base(seed, torch.bfloat16) for seed in range(3)]
    for k, params in enumerate(models):
        (tmp_path / f"{k}").mkdir()
        save_file(params, tmp_path / f"{k}" / "model.safetensors")
    expected = dict(transport(models[0], models[1], models[2], SPEC, drawn(), scale=0.7))
    with (
        open_checkpoint(tmp_path / "0") as old,
        open_checkpoint(tmp_path / "1") as tuned,
        open_checkpoint(tmp_path / "2") as new,
    ):
        moved = transport(old, tuned, new, SPEC, drawn(), scale=0.7)
        write_checkpoint(tmp_path / "out", outline_of(old, tuned, new), tuned.files, moved)
    with open_checkpoint(tmp_path / "out") as found:
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_fine_tune_left_keeps_the_bits_of_the_new_base(dtype: torch.dtype):
    old, new = base(0, dtype), base(2, dtype)
    new["up"][0, 0] = -0.0
    for scale in (1.0, 0.3, 0.0, -2.0):
        found = dict(transport(old, base(0, dtype), new, SPEC, drawn(), scale=scale))
        for name, tensor in new.items():
            bits = [t.reshape(-1).view(torch.uint8) for t in (found[name], tensor)]
            assert torch.equal(*bits), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_permuted_copy_of_the_old_base_gets_the_permuted_fine_tune_exactly(dtype: torch.dtype):
    old, tuned = base(0, dtype), base(1, dtype)
    new = permute(old, SPEC, drawn(), partial=True)
    found = dict(transport(old, tuned, new, SPEC, drawn()))
    for name, tensor in permute(tuned, SPEC, drawn(), partial=True).items():
        assert torch.equal(found[name], tensor), name
    found = dict(transport(old, tuned, new, SPEC, drawn(), shared_statistics=False))
    assert all(torch.equal(found[name], new[name]) for name in ("mean", "count"))


def test_a_new_head_is_permuted_as_a_whole_and_keeps_its_dtype():
    old, tuned, new = (base(seed, torch.bfloat16) for seed in range(3))
    tuned["score"] = torch.arange(12.0).reshape(2, 6)
    del tuned["embed"]  # a head that the fine-tune dropped is no loss
    found = dict(transport(old, tuned, new, SPEC, drawn(), scale=0.5))
    assert torch.equal(found["score"], tuned["score"][:, drawn().indices["d"]])
    assert found.keys() == tuned.keys()
    del tuned["score"]
    tuned["other"] = torch.ones(2)
    with pytest.raises(SpecError, match="no pattern for other, which only the fine-tune has"):
        transport(old, tuned, new, SPEC, drawn())


def test_mixed_dtypes_are_computed_in_the_wider_one():
    old, tuned, new = base(0), base(1), base(2, torch.bfloat16)
    found = dict(transport(old, tuned, new, SPEC, drawn()))
    for name, tensor in formula(old, tuned, new, drawn(), 1.0).items():
        torch.testing.assert_close(found[name], tensor, msg=name)


@pytest.mark.parametrize(("side", "what"), [(0, "old base"), (1, "fine-tune"), (2, "new base")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named_with_its_model(side: int, what: str, value: float):
    models = [base(seed) for seed in range(3)]
    models[side]["down"][1, 2] = value
    with pytest.raises(ParamsError, match=f"down: 1 of 60 values of the {what} are NaN or inf"):
        dict(transport(models[0], models[1], models[2], SPEC, drawn()))


def test_overflow_in_the_dtype_of_the_new_base_is_noticed():
    old, tuned, new = base(0), base(1), base(2, torch.float16)
    tuned["gain"][3] = 1e6
    with pytest.raises(ParamsError, match=r"gain: .* the result in torch.float16 are NaN or inf"):
        dict(transport(old, tuned, new, SPEC, drawn()))


def test_models_that_differ_are_refused_before_anything_is_computed():
    old, tuned, new = (base(seed) for seed in range(3))
    with pytest.raises(ParamsError, match=r"embed differ: \(7, 6\) in the old base, \(8, 6\) in"):
        transport(old, {**tuned, "embed": torch.ones(8, 6)}, new, SPEC, drawn())
    with pytest.raises(ParamsError, match=r"gain differ: \(3,\) in the new base, \(6,\) in"):
        transport(old, tuned, {**new, "gain": torch.ones(3)}, SPEC, drawn())
    with pytest.raises(ParamsError, match="the new base lacks scale, which old base and fine-tune"):
        transport(old, tuned, {n: t for n, t in new.items() if n != "scale"}, SPEC, drawn())
    wide = {"gain": torch.ones(5)}
    with pytest.raises(SpecError, match="gain: axis 0 has length 5"):
        transport(wide, wide, wide, SPEC, drawn())
    with pytest.raises(SpecError, match="differ in the groups"):
        transport(old, tuned, new, SPEC, Permutation({}))


def test_tensors_that_cannot_be_computed_with_stay_or_are_refused():
    old, tuned, new = ({"packed": torch.full((4,), k, dtype=torch.uint8)} for k in (1, 2, 3))
    spec = PermutationSpec.parse({"packed": "."})
    identity = Permutation({})
    assert dict(transport(old, dict(old), new, spec, identity))["packed"].tolist() == [3] * 4
    with pytest.raises(ParamsError, match=r"packed: .* dequantize all three models first"):
        dict(transport(old, tuned, new, spec, identity))
    narrow = [{"packed": t["packed"].to(torch.float8_e4m3fn)} for t in (old, tuned, new)]
    with pytest.raises(ParamsError, match=r"packed: .*float8_e4m3fn.* dequantize"):
        dict(transport(narrow[0], narrow[1], narrow[2], spec, identity))
    none = PermutationSpec({}, {})
    assert torch.equal(dict(transport(old, old, new, none, identity))["packed"], new["packed"])
    with pytest.raises(SpecError, match="packed: the fine-tune changed it, and the spec has no"):
        dict(transport(old, tuned, new, none, identity))
