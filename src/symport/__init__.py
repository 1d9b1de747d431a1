"""Carry a training run over to another network, without training it.

spec = symport.discover(model, example_inputs)
source = symport.Trajectory.open("runs/source")
method = symport.FGMT(symport.LossGradient(model, loss, batches))
result = symport.transfer(source, target_init, spec, method)
model.load_state_dict(result.params)
"""

from symport import errors
from symport.gmt import FGMT, GMT
from symport.gradients import LossGradient
from symport.landscape import barrier
from symport.matching import match
from symport.permute import permute
from symport.spec import PermutationSpec
from symport.symmetry import discover
from symport.trajectory import Trajectory
from symport.transfer import TransferResult, transfer

__all__ = [
    "FGMT",
    "GMT",
    "LossGradient",
    "PermutationSpec",
    "Trajectory",
    "TransferResult",
    "barrier",
    "discover",
    "errors",
    "match",
    "permute",
    "transfer",
]
