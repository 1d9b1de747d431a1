"""The problem of `symport transfer`: a classifier, any trajectory, and labelled examples."""

import math
from collections.abc import Mapping

from torch import Tensor, nn

from symport.data import Labelled
from symport.errors import DataError, ParamsError
from symport.methods import Finish, check_fit
from symport.model import evaluate, has_batchnorm, reestimate, state_for
from symport.params import Params, check_finite, is_inexact
from symport.selection._parameterization import WholeWeights
from symport.selection._problem import Losses, SelectionProblem, Task, Terms
from symport.spec import PermutationSpec
from symport.trajectory import Trajectory

TERMS = Terms(
    "the source's initialization", "the trained source", "the source's training", "the target"
)


def classification_problem(
    model: nn.Module,
    losses: Losses,
    source: Trajectory,
    target_init: Params,
    spec: PermutationSpec,
    examples: tuple[Labelled, Labelled],
    *,
    batch_size: int,
) -> SelectionProblem:
    """The transfer of a classifier's training, with all weights as they are.

    BatchNorm is re-estimated on the training inputs wherever weights have been transferred or
    trained.

    Args:
        model: A classifier; gives the computation.
        losses: The loss of each example, in nats for the built-in ones, `(n,)`.
        source: The source's trajectory, recorded or linear.
        target_init: The target initialization.
        spec: The symmetry of the network.
        examples: Those that match, choose and train, and those that only report; classes from 0.
        batch_size: Examples that pass through the model at a time, and those of a gradient.

    Raises:
        ParamsError: The target does not fit the source, holds NaN, or has integer weights.
        SpecError: The spec does not fit the network.

    Example:
        >>> import torch
        >>> from torch.nn import functional
        >>> model = nn.Linear(2, 2, bias=False)
        >>> start, end = {"weight": torch.zeros(2, 2)}, {"weight": 9 * torch.eye(2)}
        >>> spec = PermutationSpec.parse({"weight": ". ."}, start)
        >>> data = Labelled(torch.eye(2).repeat(4, 1), torch.tensor([0, 1]).repeat(4))
        >>> def losses(outputs, labels):
        ...     return functional.cross_entropy(outputs, labels, reduction="none")
        >>> problem = classification_problem(
        ...     model, losses, Trajectory.linear(start, end, steps=1), start, spec, (data, data),
        ...     batch_size=8)
        >>> problem.evaluate(end, data).accuracy
        1.0
    """
    check_fit(source, target_init, spec)
    training, held_out = examples
    displacement = source.lazy_displacement(source.steps)
    return SelectionProblem(
        model,
        Task(lambda inputs: inputs, losses, _is_right),
        source,
        target_init,
        spec,
        WholeWeights(target_init, displacement, spec),
        training,
        held_out,
        batch_size,
        finish=_reestimation(model, training, batch_size),
        terms=TERMS,
    )


def check_examples(model: nn.Module, params: Params, examples: Mapping[str, Labelled]) -> None:
    """Raise unless the model can be scored on some sets of examples.

    Args:
        model: A classifier.
        params: A state dict of the model.
        examples: Sets of examples, under the names by which messages call them.

    Raises:
        ParamsError: The parameters do not fit the model, are integers, or hold NaN or infinity.
        DataError: The model fails on a set, or a label is no class of it.

    Example:
        >>> import torch
        >>> model, params = nn.Linear(2, 2), {"weight": torch.eye(2), "bias": torch.zeros(2)}
        >>> check_examples(model, params, {"test": Labelled(torch.eye(2), torch.tensor([0, 1]))})
        >>> check_examples(model, params, {"test": Labelled(torch.eye(2), torch.tensor([0, 2]))})
        Traceback (most recent call last):
        symport.errors.DataError: test: ...
    """
    check_finite(params, "the target initialization")
    try:
        state = state_for(model, params)
    except ParamsError as error:
        raise ParamsError(f"the target initialization does not fit the model: {error}") from error
    if odd := [name for name, _ in model.named_parameters() if not is_inexact(state[name])]:
        raise ParamsError(
            f"{odd[0]}: weights of {state[odd[0]].dtype} cannot be transferred; convert them to a "
            "floating-point dtype first"
        )
    for name, part in examples.items():
        try:
            evaluate(model, params, part.inputs, part.labels)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error


def _is_right(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.argmax(-1) == labels


def _reestimation(model: nn.Module, training: Labelled, batch_size: int) -> Finish | None:
    """BatchNorm measured on the training inputs, in batches as even as can be: none of one."""
    if not has_batchnorm(model):
        return None
    inputs = [part.inputs for part in training.parts(math.ceil(len(training) / batch_size))]
    return lambda params: reestimate(model, params, inputs)
