import torch

from symport.data import Labelled
from symport.port._coverage import coverage


def labelled(*pairs):
    return Labelled(torch.tensor([[x, 0] for x, _ in pairs]), torch.tensor([y for _, y in pairs]))


def test_classes_without_examples_are_named():
    working, reporting = labelled((1, 0), (2, 1)), labelled((3, 0))
    nowhere, untold = coverage(working, reporting, ["a", "b", "c", "d"])
    assert nowhere.startswith("2 of the 4 classes have no example (c, d): how a port does on them")
    assert untold.startswith("1 of the 4 classes have no example among the 1 held out (b)")
    assert coverage(working, labelled((3, 0), (4, 1)), ["a", "b"]) == []
    assert coverage(working, reporting, []) == []


def test_doubles_are_counted_and_the_label_makes_a_difference():
    working, reporting = labelled((1, 0), (2, 1)), labelled((1, 0), (1, 1), (3, 0), (1, 0))
    (sentence,) = coverage(working, reporting, [])
    assert sentence.startswith("2 of the 4 held-out examples are among the training")
