"""Accuracy, likelihood and calibration of a network at given parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from symport.errors import DataError, SettingsError
from symport.model._call import call, evaluation, state_for
from symport.params import Params


@dataclass(frozen=True)
class Scores:
    """The metrics of a network on a labelled set.

    Attributes:
        accuracy: Share of correct predictions, in [0, 1].
        nll: Mean negative log-likelihood of the labels, in nats.
        ece: Expected calibration error, in [0, 1].
    """

    accuracy: float
    nll: float
    ece: float


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest logit is that of the label.

    Args:
        logits: Shape `(..., classes)`.
        labels: Class of each sample, shape `(...)`, an integer dtype.

    Returns:
        A share in [0, 1].

    Raises:
        DataError: The set is empty, shapes do not agree, a label is out of range, or a logit is
            NaN.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        0.5
    """
    logits, labels = _flat(logits, labels)
    return float((logits.argmax(-1) == labels).double().mean())


def nll(logits: Tensor, labels: Tensor) -> float:
    """The mean negative log-likelihood of the labels, in nats, computed in float64.

    Args:
        logits: Unnormalized log-probabilities, shape `(..., classes)`.
        labels: Class of each sample, shape `(...)`, an integer dtype.

    Raises:
        DataError: The set is empty, shapes do not agree, a label is out of range, or a logit is
            NaN.

    Example:
        >>> round(nll(torch.zeros(3, 10), torch.tensor([0, 5, 9])), 6)  # log 10
        2.302585
    """
    logits, labels = _flat(logits, labels)
    return float(F.cross_entropy(logits.double(), labels))


def ece(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """The expected calibration error of the largest probabilities (Guo et al. 2017, eq. 3).

    ECE = Σ_b n_b/n · |accuracy_b − confidence_b| over equally wide bins (k/bins, (k+1)/bins].

    Args:
        logits: Unnormalized log-probabilities, shape `(..., classes)`.
        labels: Class of each sample, shape `(...)`, an integer dtype.
        bins: Number of bins, at least 1.

    Returns:
        A mean gap in [0, 1].

    Raises:
        DataError: The set is empty, shapes do not agree, a label is out of range, or a logit is
            NaN.
        SettingsError: `bins` is below 1.

    Example:
        >>> round(ece(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0])), 6)
        0.5
    """
    if bins < 1:
        raise SettingsError(f"bins must be at least 1, not {bins}")
    logits, labels = _flat(logits, labels)
    confidence, answer = logits.double().softmax(-1).max(-1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    surplus = (answer == labels).double() - confidence
    totals = place.cpu().bincount(surplus.cpu(), bins)  # on a GPU the order of sums would vary
    return float(totals.abs().sum() / len(labels))


def predict(model: nn.Module, params: Params, inputs: Tensor, *, batch_size: int = 512) -> Tensor:
    """The outputs of the model at the given parameters, in evaluation mode.

    Args:
        model: The network; its own parameters, buffers and modes are not modified.
        params: A state dict of the model.
        inputs: Shape `(samples, ...)`; moved batch by batch to the device of the parameters.
        batch_size: Samples at a time, which bounds the memory.

    Returns:
        Outputs without gradient, shape `(samples, ...)`, on the device of the parameters.

    Raises:
        DataError: There are no inputs, or the model returns anything but a tensor.
        ParamsError: The parameters do not fit the model.
        SettingsError: `batch_size` is below 1.

    Example:
        >>> params = {"weight": torch.tensor([[2.0]])}
        >>> predict(nn.Linear(1, 1, bias=False), params, torch.tensor([[1.0], [3.0]]))
        tensor([[2.],
                [6.]])
    """
    if batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1, not {batch_size}")
    if len(inputs) == 0:
        raise DataError("there are no inputs to evaluate")
    state = state_for(model, params)
    device = next((tensor.device for tensor in state.values()), inputs.device)
    with torch.no_grad(), evaluation(model):
        outputs = [call(model, state, batch.to(device)) for batch in inputs.split(batch_size)]
    if not isinstance(outputs[0], Tensor):
        raise DataError(f"the model returns a {type(outputs[0]).__name__}, expected a tensor")
    return torch.cat(outputs)


def evaluate(
    model: nn.Module, params: Params, inputs: Tensor, labels: Tensor, *, batch_size: int = 512
) -> Scores:
    """Accuracy, likelihood and calibration on a labelled set, in evaluation mode.

    Args:
        model: The network, which returns logits of shape `(batch, ..., classes)`.
        params: A state dict of the model.
        inputs: Shape `(samples, ...)`.
        labels: Shape `(samples, ...)`, an integer dtype.
        batch_size: Samples at a time.

    Raises:
        DataError: The set is empty, shapes do not agree, a label is out of range, or a logit is
            NaN.
        ParamsError: The parameters do not fit the model.

    Example:
        >>> params = {"weight": torch.tensor([[1.0], [-1.0]])}  # class 0 for positive inputs
        >>> inputs, labels = torch.tensor([[5.0], [-5.0]]), torch.tensor([0, 0])
        >>> evaluate(nn.Linear(1, 2, bias=False), params, inputs, labels).accuracy
        0.5
    """
    logits = predict(model, params, inputs, batch_size=batch_size)
    labels = labels.to(logits.device)
    return Scores(accuracy(logits, labels), nll(logits, labels), ece(logits, labels))


def _flat(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and labels, checked and flattened to `(samples, classes)` and `(samples,)`."""
    if logits.ndim < 2 or logits.shape[:-1] != labels.shape:
        raise DataError(
            f"logits of shape {tuple(logits.shape)} need labels of shape "
            f"{tuple(logits.shape[:-1])}, not {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"labels are of {labels.dtype}, expected the number of a class")
    if logits.numel() == 0:
        raise DataError(f"there is nothing to score: logits have shape {tuple(logits.shape)}")
    classes = logits.shape[-1]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(f"labels run from {low} to {high}, but there are {classes} classes")
    if wrong := int(logits.isnan().sum()):
        raise DataError(f"{wrong} of {logits.numel()} logits are NaN; check parameters and inputs")
    return logits.detach().reshape(-1, classes), labels.reshape(-1).long()
