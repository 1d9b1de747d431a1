import itertools

import pytest
import torch
from cases import CONVOLUTION, GROUPED_QUERIES, RECURRENT, seeded

from symport.matching import cut
from symport.matching._bilinear import BilinearPart, gram, take


def bilinear_part(case, name, index_seed=None):
    """The single part of a tensor, its units in order or shuffled."""
    (part,) = cut(name, case.shapes[name], case.spec)
    orders = [torch.arange(slot.size) for slot in part.slots]
    if index_seed is not None:
        generator = seeded(index_seed)
        orders = [torch.randperm(slot.size, generator=generator) for slot in part.slots]
    return BilinearPart(part, orders)


def drawn(case, name, count, seed=0):
    generator = seeded(seed)
    return [torch.randn(case.shapes[name], generator=generator) for _ in range(count)]


def by_loops(part, slot):
    """Σ over pairs of w · ⟨target unit i, source unit j⟩, the other slots placed by their index."""
    n = part.part.slots[slot].size
    total = torch.zeros(n, n, dtype=torch.float64)
    for pair in part.pairs:
        source = pair.source.double()
        for other, index in enumerate(part.index):
            if other != slot:
                source = source.index_select(other + 1, index)
        target = pair.target.double()
        for i, j in itertools.product(range(n), repeat=2):
            one, two = target.select(slot + 1, i), source.select(slot + 1, j)
            total[i, j] += pair.weight * float((one * two).sum())
    return total


CHOSEN = [(CONVOLUTION, "w2"), (RECURRENT, "hidden"), (GROUPED_QUERIES, "out")]
chosen = pytest.mark.parametrize(("case", "name"), CHOSEN, ids=[name for _, name in CHOSEN])


@chosen
def test_an_added_pair_gives_the_similarity_of_each_slot(case, name):
    part = bilinear_part(case, name, index_seed=3)
    target, source = drawn(case, name, 2)
    for slot, gain in enumerate(part.add(target, source, 1.5)):
        assert gain.dtype == torch.float64
        assert torch.allclose(gain, by_loops(part, slot), atol=1e-4)


@chosen
@pytest.mark.parametrize("chunk", [1, 50, 2**24])
def test_a_correction_is_the_difference_of_similarities(case, name, chunk, monkeypatch):
    monkeypatch.setattr("symport.matching._bilinear.CHUNK", chunk)
    part = bilinear_part(case, name, index_seed=3)
    for k, weight in enumerate((1.0, 0.5, 2.0)):
        target, source = drawn(case, name, 2, seed=k)
        part.add(target, source, weight)
    for slot, moved in ((0, 1), (1, 0)):
        index = torch.randperm(part.part.slots[moved].size, generator=seeded(8))
        before = by_loops(part, slot)
        correction = part.correction(slot, moved, index)
        part.index[moved] = index
        assert torch.allclose(before + correction, by_loops(part, slot), atol=1e-4)


def test_a_move_to_where_the_units_are_corrects_nothing():
    part = bilinear_part(CONVOLUTION, "w2", index_seed=3)
    target, source = drawn(CONVOLUTION, "w2", 2)
    part.add(target, source, 1.0)
    assert not part.correction(0, 1, part.index[1]).any()


@pytest.mark.parametrize("slot", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gram_is_the_matrix_of_inner_products(slot, dtype):
    generator = seeded(0)
    target, source = (torch.randn(2, 3, 4, 5, generator=generator).to(dtype) for _ in range(2))
    letters = "rabc"
    one, two = letters.replace(letters[slot + 1], "i"), letters.replace(letters[slot + 1], "j")
    expected = torch.einsum(f"{one},{two}->ij", target.double(), source.double())
    product = gram(target, source, slot)
    assert product.dtype == torch.float64
    assert torch.allclose(product, expected, atol=1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_take_chooses_units_of_one_slot(slot):
    tensor = torch.randn(2, 3, 4, 5, generator=seeded(0))
    index = torch.tensor([2, 0])
    assert torch.equal(take(tensor, slot, index), tensor.index_select(slot + 1, index))
