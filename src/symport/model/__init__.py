"""A model at given parameters: outputs, gradients, activations, metrics, training."""

from symport.model._activations import (
    activations,
    layers_of,
    rows_of,
    standardize,
    with_activations,
)
from symport.model._batchnorm import has_batchnorm, reestimate
from symport.model._call import (
    call,
    describe_shapes,
    evaluation,
    own_tensors,
    state_for,
    to_device,
)
from symport.model._cka import hidden_states, linear_cka
from symport.model._finetune import train_directly, train_directly_
from symport.model._gradients import GradientsAlong, Loss, LossGradient, Points
from symport.model._landscape import (
    Barrier,
    LandscapeCurve,
    LandscapePlane,
    barrier,
    barrier_of,
    interpolation_curve,
    plane,
)
from symport.model._metrics import (
    Scores,
    accuracy,
    ece,
    evaluate,
    nll,
    predict,
)

__all__ = [
    "Barrier",
    "GradientsAlong",
    "LandscapeCurve",
    "LandscapePlane",
    "Loss",
    "LossGradient",
    "Points",
    "Scores",
    "accuracy",
    "activations",
    "barrier",
    "barrier_of",
    "call",
    "describe_shapes",
    "ece",
    "evaluate",
    "evaluation",
    "has_batchnorm",
    "hidden_states",
    "interpolation_curve",
    "layers_of",
    "linear_cka",
    "nll",
    "own_tensors",
    "plane",
    "predict",
    "reestimate",
    "rows_of",
    "standardize",
    "state_for",
    "to_device",
    "train_directly",
    "train_directly_",
    "with_activations",
]
