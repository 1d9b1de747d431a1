"""A selection among tiny classifiers, shared by the tests of porting."""

import torch
from nets import labelled, net, source, spec, weights
from torch import Tensor
from torch.nn import functional

from symport.params import Params
from symport.selection import SelectionProblem, Task, WholeWeights
from symport.settings import Rules, checked

RULES = checked(
    Rules,
    {"steps": 3, "scales": (1.5,), "folds": 2, "direct_steps": 4, "direct_batch_size": 10,
     "learning_rates": (1e-3, 1e-2)},
)  # fmt: skip


def cross_entropies(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, labels, reduction="none")


def hits(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.argmax(1) == labels


def selection_problem(
    target: Params | None = None, count: int = 24, losses=cross_entropies
) -> SelectionProblem:
    """A port from seed 1 to `target`, by default seed 2."""
    way, target = source(3), weights(2) if target is None else target
    whole = WholeWeights(target, way.displacement(3), spec())
    task = Task(lambda inputs: inputs, losses, hits)
    return SelectionProblem(
        net(), task, way, target, spec(), whole, labelled(count), labelled(60, seed=7), 16
    )


def loss_of(params: Params, data) -> float:
    model = net()
    model.load_state_dict(dict(params))
    with torch.no_grad():
        return float(functional.cross_entropy(model(data.inputs), data.labels))
