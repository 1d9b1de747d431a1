import pytest
import torch
from torch import Generator

from symport.errors import DataError
from symport_recipes.data import Examples, batches, counted, crop_and_flip, fixed_batches


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def numbered(n: int) -> Examples:
    """Input and label of each example are its number."""
    return Examples(torch.arange(float(n))[:, None], torch.arange(n))


def images(n: int = 4) -> Examples:
    pixels = torch.randint(0, 256, (n, 3, 4, 4), generator=seeded(7)).to(torch.uint8)
    return Examples(pixels, torch.arange(n), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def test_a_pass_shows_every_example_once():
    drawn = list(batches(numbered(10), 4, seeded()))
    assert [len(labels) for _, labels in drawn] == [4, 4, 2]
    labels = torch.cat([labels for _, labels in drawn])
    assert sorted(labels.tolist()) == list(range(10))
    assert labels.tolist() != list(range(10))
    for inputs, its_labels in drawn:
        assert torch.equal(inputs.flatten().long(), its_labels)


def test_passes_of_one_generator_differ_and_can_be_repeated():
    generator = seeded()
    one, two = ([y.tolist() for _, y in batches(numbered(9), 9, generator)] for _ in range(2))
    assert one != two
    generator = seeded()
    assert one == [y.tolist() for _, y in batches(numbered(9), 9, generator)]
    assert two == [y.tolist() for _, y in batches(numbered(9), 9, generator)]


def test_images_are_normalised_as_the_whole_set_would_be():
    examples = images()
    whole = examples.floats(torch.float64)
    for inputs, labels in batches(examples, 3, seeded(), dtype=torch.float64):
        assert torch.equal(inputs, whole[labels])


def test_images_are_augmented_before_they_are_normalised():
    examples = images()
    generator = seeded()
    order = torch.randperm(4, generator=generator)
    expected = Examples(
        crop_and_flip(examples.inputs[order], generator), order, examples.mean, examples.std
    )
    ((inputs, labels),) = batches(examples, 4, seeded(), augment=True)
    assert torch.equal(labels, order)
    assert torch.equal(inputs, expected.floats())


@pytest.mark.parametrize(
    "examples",
    [numbered(4), images().normalised(), Examples(images().inputs[:, 0], torch.arange(4))],
)
def test_only_images_can_be_augmented(examples: Examples):
    with pytest.raises(DataError, match="only uint8 images of shape"):
        next(batches(examples, 2, seeded(), augment=True))


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(DataError, match="a batch of 0 examples is asked for"):
        next(batches(numbered(4), 0, seeded()))
    with pytest.raises(DataError, match="a batch of -1 examples is asked for"):
        fixed_batches(numbered(4).inputs, numbered(4).labels, -1, 1, seeded())


def test_fixed_batches_are_full_and_use_all_examples_in_turn():
    examples = numbered(10)
    drawn = fixed_batches(examples.inputs, examples.labels, 4, 5, seeded())
    assert len(drawn) == 5
    for inputs, labels in drawn:
        assert len(set(labels.tolist())) == 4
        assert torch.equal(inputs.flatten().long(), labels)
    first_pass = torch.cat([labels for _, labels in drawn[:2]]).tolist()
    assert len(set(first_pass)) == 8


def test_a_fixed_batch_may_hold_everything():
    examples = numbered(5)
    drawn = fixed_batches(examples.inputs, examples.labels, 5, 3, seeded())
    assert [sorted(labels.tolist()) for _, labels in drawn] == [list(range(5))] * 3


@pytest.mark.parametrize(("size", "count"), [(6, 1), (5, 0), (5, -1)])
def test_fixed_batches_that_cannot_be_are_refused(size: int, count: int):
    examples = numbered(5)
    with pytest.raises(DataError, match="take at least 1 batch of at most 5"):
        fixed_batches(examples.inputs, examples.labels, size, count, seeded())


def test_fixed_batches_of_one_seed_are_the_same():
    examples = numbered(20)
    drawn = [
        [y.tolist() for _, y in fixed_batches(examples.inputs, examples.labels, 4, 7, seeded(s))]
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_inputs_without_their_labels_are_refused():
    with pytest.raises(DataError, match=r"inputs have shape \(3, 1\) for 5 labels"):
        fixed_batches(torch.zeros(3, 1), torch.arange(5), 2, 1, seeded())


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("among", [2, 3])
def test_parts_of_every_batch_make_the_batch(augment: bool, among: int):
    whole = list(batches(images(10), 4, seeded(), augment=augment))  # 4, 4 and 2 images
    parts = [
        list(batches(images(10), 4, seeded(), augment=augment, place=place, among=among))
        for place in range(among)
    ]
    for step, (inputs, labels) in enumerate(whole):
        counts = [counted(len(labels), place, among) for place in range(among)]
        pieces = [part[step] for part in parts]
        counting = [(p[0][:n], p[1][:n]) for p, n in zip(pieces, counts, strict=True)]
        together = [torch.cat(tensors) for tensors in zip(*counting, strict=True)]
        assert torch.equal(together[0], inputs)
        assert torch.equal(together[1], labels)
        assert all(len(piece[1]) >= 1 for piece in pieces)  # BatchNorm and means need one
        assert max(counts) - min(counts) <= 1
