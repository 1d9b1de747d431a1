"""The built-in digits: a trained source, a target initialization, and a few labels."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

import symport
from symport.data import Labelled
from symport.model import evaluate
from symport.params import Params
from symport_recipes.data import digits, split
from symport_recipes.networks import digits_mlp, initial
from symport_recipes.setups._comparison import Case
from symport_recipes.training import TrainSettings, train

STEPS = 10
PARTS = (400, 1000, 397)  # digits of the source, of the target's side, of the test set
TRAINING = TrainSettings(epochs=30, batch_size=64, lr=0.1)


@dataclass(frozen=True, eq=False)
class DigitsScene:
    """A trained source, a target initialization, and the target's data.

    Attributes:
        model: Gives the computation.
        source_init: The source's initialization.
        source_final: The trained source.
        target_init: Another initialization.
        target_final: The target after training on the source's digits, for the oracle alone.
        hand: The labels at hand.
        test: Labels that only report.
    """

    model: nn.Module
    source_init: Params
    source_final: Params
    target_init: Params
    target_final: Params
    hand: Labelled
    test: Labelled

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """All labels at hand as one batch."""
        return [(self.hand.inputs, self.hand.labels)]

    def case(self) -> Case:
        """The transfer with these labels, along a linear trajectory."""
        source = symport.Trajectory.linear(self.source_init, self.source_final, STEPS)
        spec = symport.discover(self.model, self.test.inputs[:2])
        return Case(self.model, cross_entropy, source, self.target_init, spec, self.hand)

    def accuracy(self, params: Params) -> float:
        """Share of right answers on the test set, in [0, 1]."""
        return evaluate(self.model, params, self.test.inputs, self.test.labels).accuracy


def digits_scene(labels: int, seed: int = 0) -> DigitsScene:
    """Train a source on its digits, and draw the given number of labels for the target."""
    source_side, target_side, test = _sides(seed)
    model, seeds = digits_mlp(), (seed, 100 + seed)
    inits = [initial(digits_mlp, s) for s in seeds]
    data = (source_side.inputs, source_side.labels)
    finals = [
        train(model, init, data, TRAINING, seed=s).params
        for init, s in zip(inits, seeds, strict=True)
    ]
    # Labels come as they come: classes are not balanced, and a larger set begins with a smaller.
    order = torch.randperm(len(target_side), generator=Generator().manual_seed(seed))
    hand = target_side.take(order[:labels])
    return DigitsScene(model, inits[0], finals[0], inits[1], finals[1], hand, test)


def _sides(seed: int) -> tuple[Labelled, Labelled, Labelled]:
    """Digits of the source, of the target's side, and of the test set."""
    data = digits()
    inputs = torch.cat([data.train_inputs, data.test_inputs])
    labels = torch.cat([data.train_labels, data.test_labels])
    parts = split(labels, PARTS, Generator().manual_seed(seed))
    source, target, test = (Labelled(inputs[index], labels[index]) for index in parts)
    return source, target, test
