"""Matching from files against matching in memory, planted permutations, and what is in memory."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from symport.errors import ParamsError, SpecError
from symport.io import Checkpoint, open_checkpoint
from symport.matching import Pair, Similarity, match
from symport.outofcore import match_checkpoints
from symport.spec import Permutation, PermutationSpec, fix, permute

LAYERS = 3


def spec_of() -> PermutationSpec:
    """A residual network with attention heads: the width `d` ties all layers together."""
    texts = {"embed": ". d", "head": ". d", "norm": "d"}
    sizes = {"d": 8}
    for k in range(LAYERS):
        texts |= {
            f"{k}.v": f"(a{k} a{k}/v) d",
            f"{k}.o": f"d (a{k} a{k}/v)",
            f"{k}.up": f"h{k} d",
            f"{k}.bias": f"h{k}",
            f"{k}.down": f"d h{k}",
            f"{k}.state": f"h{k} h{k}",
        }
        sizes |= {f"a{k}": 3, f"a{k}/v": 2, f"h{k}": 10}
    return PermutationSpec.parse(texts, sizes=sizes)


SPEC = spec_of()
ROOTS = ["d", *(f"h{k}" for k in range(LAYERS)), *(f"a{k}" for k in range(LAYERS))]


def weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = Generator().manual_seed(seed)
    shapes = {"embed": (12, 8), "head": (5, 8), "norm": (8,)}
    for k in range(LAYERS):
        shapes |= {f"{k}.v": (6, 8), f"{k}.o": (8, 6), f"{k}.up": (10, 8), f"{k}.bias": (10,)}
        shapes |= {f"{k}.down": (8, 10), f"{k}.state": (10, 10)}
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in shapes.items()}


def drawn(spec: PermutationSpec = SPEC) -> Permutation:
    return Permutation.random(spec, Generator().manual_seed(5))


class Watched:
    """A shard in memory that hands out copies, and knows how many elements of them are alive."""

    path, metadata = Path("watched"), {}

    def __init__(self, params: dict[str, Tensor]):
        self.params, self.alive, self.most, self.read = params, 0, 0, 0
        self.outline = {name: tensor.to("meta") for name, tensor in params.items()}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        result = self.params[name][start:stop].clone()
        self.count(result.numel())
        self.read += result.numel()
        weakref.finalize(result.untyped_storage(), self.count, -result.numel())
        return result

    def count(self, change: int):
        self.alive += change
        self.most = max(self.most, self.alive)

    def checkpoint(self) -> Checkpoint:
        shards: list[Any] = [self]  # in place of a Shard: all that is asked of one is above
        return Checkpoint(self.path, shards)


def test_with_the_width_fixed_the_answer_is_that_of_match():
    old, new = weights(0), weights(1)
    for k in range(LAYERS):
        del old[f"{k}.state"], new[f"{k}.state"]
    spec = fix(SPEC, ["d"], "given")
    expected = match(spec, [Pair(new, old)], start=Permutation.identity(spec))
    found = match_checkpoints(old, new, SPEC, fixed=["d"])
    assert found.solves == 2 * LAYERS
    assert found.converged
    found.permutation.check(SPEC)
    assert torch.equal(found.permutation.indices["d"], torch.arange(8))
    for group in spec.groups:
        assert torch.equal(found.permutation.indices[group], expected.permutation.indices[group])
    assert found.objective == pytest.approx(expected.objective)


def test_a_planted_permutation_of_every_group_is_found():
    old = weights(0)
    found = match_checkpoints(old, permute(old, SPEC, drawn()), SPEC)
    assert found.permutation.equal(drawn())
    assert found.objective == pytest.approx(sum(float((t**2).sum()) for t in old.values()))


@pytest.mark.parametrize("seed", range(5))
def test_no_single_tree_can_gain_at_the_answer(seed: int):
    old, new = weights(seed), weights(seed + 10)
    found = match_checkpoints(old, new, SPEC)
    similarity = Similarity(SPEC, found.permutation)
    similarity.add(Pair(new, old))
    assert similarity.objective == pytest.approx(found.objective, rel=1e-5)
    again = match(SPEC, [Pair(new, old)], start=found.permutation)
    assert again.objective == pytest.approx(found.objective, rel=1e-6)
    start = Similarity(SPEC)
    start.add(Pair(new, old))
    assert found.objective > start.objective


def test_chunks_do_not_change_the_answer(monkeypatch):
    old, new = weights(0), weights(1)
    whole = match_checkpoints(old, new, SPEC)
    monkeypatch.setattr("symport.outofcore._matching.CHUNK", 30)
    monkeypatch.setattr("symport.outofcore._row_blocks.CHUNK", 30)
    runs = match_checkpoints(old, new, SPEC)
    assert runs.permutation.equal(whole.permutation)
    assert runs.objective == pytest.approx(whole.objective)


def test_files_give_the_same_as_memory(tmp_path: Path):
    old, new = weights(0, torch.bfloat16), weights(1, torch.bfloat16)
    for name, params in (("old", old), ("new", new)):
        save_file(params, tmp_path / f"{name}.safetensors")
    with (
        open_checkpoint(tmp_path / "old.safetensors") as a,
        open_checkpoint(tmp_path / "new.safetensors") as b,
    ):
        found = match_checkpoints(a, b, SPEC)
    assert found.permutation.equal(match_checkpoints(old, new, SPEC).permutation)


@pytest.mark.parametrize("fixed", [[], ["d"]])
def test_one_tensor_of_each_side_is_in_memory_at_a_time(fixed: list[str]):
    sides = [Watched(weights(0)), Watched(weights(1))]
    target, source = (side.checkpoint() for side in sides)
    match_checkpoints(target, source, SPEC, fixed=fixed)
    for side in sides:
        assert 0 < side.most <= max(tensor.numel() for tensor in side.params.values())
        assert side.alive == 0
    if fixed:
        without_state = {n: t for n, t in weights(0).items() if "state" not in n}
        side = Watched(without_state)
        match_checkpoints(side.checkpoint(), without_state, SPEC, fixed=fixed)
        assert side.read <= 2 * sum(tensor.numel() for tensor in without_state.values())


def test_with_every_tree_fixed_nothing_moves():
    found = match_checkpoints(weights(0), weights(1), SPEC, fixed=ROOTS)
    assert found.permutation.equal(Permutation.identity(SPEC))
    with pytest.raises(SpecError, match="there is no group width"):
        match_checkpoints(weights(0), weights(1), SPEC, fixed=["width"])


def test_bad_checkpoints_are_refused_by_name():
    old, new = weights(0), weights(1)
    new["0.up"][1, 1] = float("nan")
    with pytest.raises(ParamsError, match=r"0.up: 1 of 80 values of the new base are NaN"):
        match_checkpoints(old, new, SPEC)
    with pytest.raises(ParamsError, match=r"norm: its shape is \(8,\) in the new base, \(9,\) in"):
        match_checkpoints({**old, "norm": torch.ones(9)}, new, SPEC)
    with pytest.raises(ParamsError, match="the old base lacks norm"):
        match_checkpoints({n: t for n, t in old.items() if n != "norm"}, new, SPEC)
