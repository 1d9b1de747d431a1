import pytest
import torch
from torch import Tensor

from symport.data import Labelled, ShuffledBatches
from symport.errors import DataError, SettingsError
from symport.settings import MAX_SEED


def numbered(count: int) -> Labelled:
    """Example k has the inputs (k, −k) and the label k."""
    k = torch.arange(count)
    return Labelled(torch.stack([k, -k], dim=1).float(), k)


def seen(labels: Tensor) -> list[int]:
    return sorted(labels.tolist())


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (torch.zeros(0, 4), torch.zeros(0), "there are no examples"),
        (torch.tensor(1.0), torch.tensor(1), "there are no examples"),
        (torch.zeros(3, 4), torch.zeros(2), r"\(3, 4\) need one label each; .* shape \(2,\)"),
        (torch.zeros(3, 4), torch.tensor(0), r"labels have shape \(\)"),
    ],
)
def test_examples_that_do_not_belong_together_are_refused(inputs, labels, message):
    with pytest.raises(DataError, match=message):
        Labelled(inputs, labels)


def test_examples_are_taken_in_the_order_asked_for():
    taken = numbered(5).take(torch.tensor([3, 0, 3]))
    assert taken.labels.tolist() == [3, 0, 3]
    assert taken.inputs.tolist() == [[3, -3], [0, 0], [3, -3]]
    with pytest.raises(DataError, match="no examples"):
        numbered(5).take(torch.tensor([], dtype=torch.int64))


@pytest.mark.parametrize(("share", "count"), [(0.2, 2), (0.25, 2), (0.9, 9)])
def test_a_split_loses_nothing_and_shares_nothing(share, count):
    first, second = numbered(10).split(share, 0)
    assert len(second) == count
    assert seen(torch.cat([first.labels, second.labels])) == list(range(10))
    assert torch.equal(second.inputs[:, 0], second.labels.float())


@pytest.mark.parametrize("share", [0.04, 0.96, 0, 1, -1, 2, float("nan")])
def test_a_split_that_leaves_nothing_is_refused(share):
    with pytest.raises(SettingsError, match="leaves a part empty; choose one between 0 and 1"):
        numbered(10).split(share, 0)


def test_a_split_depends_on_its_seed_alone():
    splits = [numbered(50).split(0.5, seed)[1].labels.tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(("total", "count"), [(10, 3), (10, 10), (3, 7), (1, 1)])
def test_parts_are_even(total, count):
    parts = numbered(total).parts(count)
    sizes = [len(part) for part in parts]
    assert len(parts) == min(count, total)
    assert max(sizes) - min(sizes) <= 1
    assert torch.cat([part.labels for part in parts]).tolist() == list(range(total))


@pytest.mark.parametrize(("total", "size"), [(12, 4), (13, 4), (5, 1), (4, 9)])
def test_each_pass_shows_no_example_twice(total, size):
    per_pass = max(1, total // size)
    batches = ShuffledBatches(numbered(total), size=size, count=3 * per_pass, seed=1)
    assert len(batches) == 3 * per_pass
    for turn in range(3):
        once = torch.cat([batches[turn * per_pass + k][1] for k in range(per_pass)])
        assert len(set(once.tolist())) == len(once) == per_pass * min(size, total)


def test_passes_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(batch[1].tolist())
        for seed in (0, 1)
        for batch in ShuffledBatches(numbered(20), size=20, count=3, seed=seed)
    ]
    assert len(set(orders)) == 6


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    first, second = (ShuffledBatches(numbered(20), size=3, count=50, seed=4) for _ in range(2))
    backwards = {number: first[number] for number in reversed(range(50))}
    for number, (inputs, labels) in enumerate(second):
        assert torch.equal(labels, backwards[number][1])
        assert torch.equal(inputs[:, 0], labels.float())


def test_there_are_only_so_many_batches():
    batches = ShuffledBatches(numbered(4), size=2, count=3, seed=0)
    assert len(list(batches)) == 3
    for number in (3, -1):
        with pytest.raises(IndexError):
            batches[number]


def test_sizes_and_seeds_out_of_range_are_refused():
    for size, count in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(SettingsError, match="must both be at least 1"):
            ShuffledBatches(numbered(4), size=size, count=count, seed=0)
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(SettingsError, match=f"between 0 and {MAX_SEED}, not {seed}"):
            ShuffledBatches(numbered(4), size=1, count=1, seed=seed)
    inputs, _ = ShuffledBatches(numbered(4), size=4, count=9, seed=MAX_SEED)[8]
    assert len(inputs) == 4
