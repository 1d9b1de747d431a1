from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from symport.errors import DataError, SettingsError
from symport_recipes.data import Dataset, few_labels, noisy_labels, only_classes, split


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def labelled(*counts: int) -> Tensor:
    """So many labels of each class, in mixed order."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=seeded(99))]


def test_nine_to_one_keeps_the_share_of_every_class():
    labels = labelled(100, 50, 10)
    train, held = split(labels, (0.9, 0.1), seeded())
    assert labels[train].bincount().tolist() == [90, 45, 9]
    assert labels[held].bincount().tolist() == [10, 5, 1]
    assert sorted(train.tolist() + held.tolist()) == list(range(160))


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.fractions(Fraction(1, 20), Fraction(19, 20)),
    seed=st.integers(0, 100),
)
def test_the_first_part_has_each_class_rounded_up_or_down(
    counts: list[int], share: Fraction, seed: int
):
    labels = labelled(*counts)
    size = max(1, round(len(labels) * share))
    (part,) = split(labels, (size,), seeded(seed))
    assert len(part) == size == len(set(part.tolist()))
    for count, found in zip(counts, labels[part].bincount(minlength=len(counts)), strict=True):
        exact = Fraction(count * size, len(labels))
        assert exact - 1 < int(found) < exact + 1


def test_parts_do_not_overlap_and_may_leave_some_over():
    labels = labelled(20, 20)
    parts = split(labels, (10, 12, 8), seeded())
    places = torch.cat(parts).tolist()
    assert [len(part) for part in parts] == [10, 12, 8]
    assert len(set(places)) == 30
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


@pytest.mark.parametrize("n", [7, 10, 33, 100])
def test_fractions_that_sum_to_one_leave_nothing_over(n: int):
    labels = torch.zeros(n, dtype=torch.int64)
    parts = split(labels, (0.7, 0.1, 0.2), seeded())
    assert sum(len(part) for part in parts) == n


def test_one_seed_gives_one_split():
    labels = labelled(30, 30)
    first, again, other = (split(labels, (0.5,), seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("parts", [(), (0,), (11,), (6, 5), (0.9, 0.2), (0.01, 0.5), (-0.5, 0.5)])
def test_sizes_that_cannot_be_are_refused(parts: Sequence[float]):
    with pytest.raises(DataError, match="each must be at least 1, all together at most 10"):
        split(torch.zeros(10, dtype=torch.int64), parts, seeded())


@pytest.mark.parametrize("n", [1, 3, 20, 25, 100])
def test_few_labels_are_as_even_as_can_be(n: int):
    labels = labelled(*[30] * 10)
    found = labels[few_labels(labels, n, seeded())].bincount(minlength=10)
    assert int(found.sum()) == n
    assert set(found.tolist()) <= {n // 10, -(-n // 10)}


def test_what_a_rare_class_lacks_the_others_give():
    labels = labelled(2, 50, 50)
    found = labels[few_labels(labels, 20, seeded())].bincount()
    assert found[0] == 2
    assert sorted(found[1:].tolist()) == [9, 9]


def test_a_longer_choice_begins_with_the_shorter():
    labels = labelled(30, 30, 5)
    twelve, forty = (few_labels(labels, n, seeded(3)) for n in (12, 40))
    assert torch.equal(forty[:12], twelve)
    assert len(set(forty.tolist())) == 40


def test_all_labels_can_be_chosen():
    labels = labelled(3, 9)
    assert sorted(few_labels(labels, 12, seeded()).tolist()) == list(range(12))


def test_chance_decides_which_classes_get_one_more():
    labels = labelled(*[5] * 4)
    first = {int(labels[few_labels(labels, 1, seeded(seed))]) for seed in range(30)}
    assert first == {0, 1, 2, 3}


@pytest.mark.parametrize("n", [0, -1, 13])
def test_a_choice_of_none_or_too_many_is_refused(n: int):
    with pytest.raises(DataError, match=f"{n} labels are asked for, there are 12"):
        few_labels(labelled(3, 9), n, seeded())


def tiny() -> Dataset:
    train, test = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([3, 2, 1, 1])
    inputs = [labels[:, None].float() for labels in (train, test)]
    return Dataset("tiny", inputs[0], train, inputs[1], test, 4, note="short")


def test_some_classes_are_numbered_in_the_order_given():
    some = only_classes(tiny(), [3, 1])
    assert some.classes == 2
    assert some.train_inputs.flatten().tolist() == [1, 3, 1]
    assert some.train_labels.tolist() == [1, 0, 1]
    assert some.test_inputs.flatten().tolist() == [3, 1, 1]
    assert some.test_labels.tolist() == [0, 1, 1]
    assert some.note == "short"


@pytest.mark.parametrize("classes", [[], [4], [-1], [1, 1]])
def test_classes_that_are_not_there_are_refused(classes: list[int]):
    with pytest.raises(DataError, match="must be one or more different numbers from 0 to 3"):
        only_classes(tiny(), classes)


def test_a_class_without_examples_is_refused():
    with pytest.raises(DataError, match=r"tiny: classes \[0\] have no test example"):
        only_classes(tiny(), [0, 1])


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 1])
def test_exactly_a_share_of_the_labels_becomes_wrong(share: float):
    labels = labelled(100, 200, 300)
    noisy = noisy_labels(labels, share, 3, seeded())
    assert int((noisy != labels).sum()) == 600 * share
    assert set(noisy.tolist()) <= {0, 1, 2}


def test_wrong_labels_are_spread_evenly_over_the_other_classes():
    noisy = noisy_labels(torch.zeros(3000, dtype=torch.int64), 1, 4, seeded())
    counts = noisy.bincount().tolist()
    assert counts[0] == 0
    assert all(abs(count - 1000) < 130 for count in counts[1:])  # five deviations of a binomial


def test_more_noise_keeps_what_less_noise_changed():
    labels = labelled(50, 50, 50)
    little, much = (noisy_labels(labels, share, 3, seeded()) for share in (0.2, 0.6))
    changed = little != labels
    assert torch.equal(little[changed], much[changed])


@pytest.mark.parametrize(
    ("share", "classes", "message"),
    [
        (-0.1, 3, "a share of -0.1 wrong labels"),
        (1.01, 3, "a share of 1.01 wrong labels"),
        (float("nan"), 3, "a share of nan wrong labels"),
        (0.5, 1, "with 1 classes no label can be wrong"),
    ],
)
def test_noise_out_of_range_is_refused(share: float, classes: int, message: str):
    with pytest.raises(SettingsError, match=message):
        noisy_labels(labelled(2), share, classes, seeded())


def test_noise_on_unknown_labels_is_refused():
    with pytest.raises(DataError, match="a label is not a number from 0 to 1"):
        noisy_labels(labelled(2, 2, 2), 0.5, 2, seeded())
