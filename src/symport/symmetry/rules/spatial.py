"""Convolution, padding, patches, shifts: operations on positions."""

from collections.abc import Sequence
from typing import Any

from symport.symmetry.calls import (
    Axes,
    Call,
    Result,
    Value,
    pinned,
    rule_for,
)
from symport.symmetry.terms import Term, product, tie, total

POSITION = "spatial position"


@rule_for("conv1d", "conv2d", "conv3d")
def convolution(call: Call) -> Result:
    """Like a linear layer in the channels of each group; positions stay, the kernel's too."""
    x, weight, groups = call["input"], call["weight"], call["groups"]
    group, filters = Term(groups), Term(weight.shape[0] // groups)
    tie(weight.axes[0], product([group, filters]))
    return _convolve(call, x, (group, filters, weight.axes[1]), weight)


@rule_for("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(call: Call) -> Result:
    """A convolution whose weight is (in, out / groups, kernel)."""
    x, weight, groups = call["input"], call["weight"], call["groups"]
    group, units = Term(groups), Term(weight.shape[0] // groups)
    tie(weight.axes[0], product([group, units]))
    return _convolve(call, x, (group, weight.axes[1], units), weight)


def _convolve(call: Call, x: Value, kernel: tuple[Term, Term, Term], weight: Value) -> Axes:
    """Sum over the units of each group; `kernel` has the terms (group, result, input)."""
    group, filters, units = kernel
    count = len(weight.axes) - 2
    channels = len(x.axes) - count - 1
    tie(x.axes[channels], product([group, units]))
    places = _positions(call, x, weight, count)
    before = {str(k): term for k, term in enumerate(x.axes[:channels])}
    spots = {f"s{k}": term for k, term in enumerate(places)}
    inputs: list[dict[str, Term]] = [
        {**before, "g": group, "i": units, **spots},
        {"g": group, "o": filters, "i": units},
    ]
    if call["bias"] is not None:
        tie(call["bias"].axes[0], product([group, filters]))
    call.contract(inputs, [*before, "g", "o", *spots])
    return (*x.axes[:channels], product([group, filters]), *places)


def _positions(call: Call, x: Value, weight: Value, count: int) -> Axes:
    """The positions of the result: those of the input if the kernel is a single point."""
    old, new = x.axes[-count:], call.shape[-count:]
    call.pin(weight.axes[2:], "kernel position")
    point = all(term.size == 1 for term in weight.axes[2:])
    if point and new == tuple(term.size for term in old) and not _moves(call):
        return old
    call.pin(old, POSITION)
    return pinned(new, POSITION)


def _moves(call: Call) -> bool:
    """Whether stride or padding shift positions."""

    def every(option: Any, value: int) -> bool:
        return all(k == value for k in option) if isinstance(option, (list, tuple)) else False

    still = call["padding"] in ("same", "valid") or every(call["padding"], 0)
    return not (every(call["stride"], 1) and still)


@rule_for("pad", "constant_pad_nd")
def pad(call: Call) -> Result:
    """New entries around the old: zeros are interchangeable, copies of others are not."""
    value, mode = call["self"], call.arguments.get("mode", "constant")
    amounts = list(call["pad"])
    axes = list(value.axes)
    for k in range(len(amounts) // 2):
        before, after = amounts[2 * k], amounts[2 * k + 1]
        axes[-1 - k] = _padded(call, axes[-1 - k], before, after, constant=mode == "constant")
    return tuple(axes)


def _padded(call: Call, term: Term, before: int, after: int, *, constant: bool) -> Term:
    if before == after == 0:
        return term
    if constant and before >= 0 and after >= 0:
        return total([Term(before), term, Term(after)])
    call.pin([term], POSITION)
    return Term(before + term.size + after, reason=POSITION)


@rule_for("im2col")
def im2col(call: Call) -> Result:
    """Patches: axis -2 is channels x kernel positions."""
    *before, channels, height, width = call["self"].axes
    call.pin([height, width], POSITION)
    spots = pinned((call.shape[-2] // channels.size,), "kernel position")
    return (*before, product([channels, *spots]), *pinned(call.shape[-1:], POSITION))


@rule_for("col2im")
def col2im(call: Call) -> Result:
    """Patches laid over each other, the inverse of `im2col`."""
    *before, entries, places = call["self"].axes
    call.pin([places], POSITION)
    channels = Term(call.shape[-3])
    spots = pinned((entries.size // channels.size,), "kernel position")
    tie(entries, product([channels, *spots]))
    return (*before, channels, *pinned(call.shape[-2:], POSITION))


@rule_for("unfold")
def unfold(call: Call) -> Result:
    """Windows along one axis, which become a last axis."""
    value, dim = call["self"], call["dimension"] % len(call["self"].axes)
    call.pin([value.axes[dim]], POSITION)
    axes = list(value.axes)
    axes[dim] = Term(call.shape[dim], reason=POSITION)
    return (*axes, *pinned(call.shape[-1:], "position in a window"))


@rule_for("grid_sampler", "grid_sampler_2d")
def grid_sample(call: Call) -> Result:
    """Each channel at positions that another tensor gives."""
    value, grid = call["input"], call["grid"]
    call.pin(value.axes[2:], POSITION)
    call.pin(grid.axes, POSITION)
    tie(value.axes[0], grid.axes[0])
    return (*value.axes[:2], *pinned(call.shape[2:], POSITION))


@rule_for("roll")
def roll(call: Call) -> Result:
    """Positions move round in the given axes."""
    return in_order(call, call["dims"] or range(len(call.shape)), "shifted round")


@rule_for("flip")
def flip(call: Call) -> Result:
    """The given axes are read backwards."""
    return in_order(call, call["dims"], "read backwards")


@rule_for("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def cumulative(call: Call) -> Result:
    """The order along one axis matters."""
    return [in_order(call, [call["dim"]], "summed in order") for _ in call.shapes]


@rule_for("_fft_c2c", "_fft_r2c", "_fft_c2r")
def fourier(call: Call) -> Result:
    """Waves along some axes; the others pass."""
    return in_order(call, call["dim"], "a Fourier transform")


def in_order(call: Call, dims: Sequence[int], reason: str) -> Axes:
    """Some axes stay, whatever their length in the result; the others pass."""
    axes = list(call["self"].axes)
    for dim in dims:
        call.pin([axes[dim]], reason)
        axes[dim] = Term(call.shape[dim], reason=reason)
    return tuple(axes)
