"""Rules of operations on positions: convolution, padding, patches, shifts."""

from collections.abc import Sequence

from symport.symmetry._terms import Term, product, tie, total
from symport.symmetry.axes import Axes, Call, Result, Value, fixed, rule_for

POSITION = "spatial position"


@rule_for("conv1d", "conv2d", "conv3d")
def convolution(call: Call) -> Result:
    """A linear layer in the channels of each group; positions of input and kernel are fixed."""
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
    kept = {k: term for k, term in spots.items() if any(term is old for old in x.axes)}
    inputs: list[dict[str, Term]] = [
        {**before, "g": group, "i": units, **kept},
        {"g": group, "o": filters, "i": units},
    ]
    if call["bias"] is not None:
        tie(call["bias"].axes[0], product([group, filters]))
    call.contract(inputs, [*before, "g", "o", *kept])
    return (*x.axes[:channels], product([group, filters]), *places)


def _positions(call: Call, x: Value, weight: Value, count: int) -> Axes:
    """The positions of the result: those of the input on axes where the kernel mixes nothing."""
    call.fix(weight.axes[2:], "kernel position")
    steps = zip(weight.axes[2:], each(call["stride"], count), _around(call, count), strict=True)
    still = [term.size == 1 and stride == 1 and not pad for term, stride, pad in steps]
    return kept_positions(call, x, still)


def kept_positions(
    call: Call, value: Value, still: Sequence[bool], gone: Sequence[int] = ()
) -> Axes:
    """The last axes of a result: those of the value where positions are neither mixed nor moved.

    Args:
        call: The operation.
        value: Its input.
        still: For each of the last axes, whether its positions are left as they are; an axis
            whose length changes counts as mixed.
        gone: Axes that are reduced to one position, in any order.
    """
    first = len(value.axes) - len(still)
    dims = range(first, len(value.axes))
    same = [dim for dim in dims if still[dim - first] and value.shape[dim] == call.shape[dim]]
    mixed = [dim for dim in dims if dim not in (*same, *gone)]
    if mixed:
        call.mix(value, mixed, POSITION)
    new = fixed(call.shape[first:], POSITION)
    return tuple(value.axes[dim] if dim in same else new[dim - first] for dim in dims)


def each(option: int | Sequence[int], count: int) -> list[int]:
    """An option for each axis; a single number is for all."""
    values = [option] if isinstance(option, int) else list(option)
    return values * count if len(values) == 1 else values


def _around(call: Call, count: int) -> list[int]:
    """The padding of each axis; "same" is none for a kernel of size one."""
    return [0] * count if isinstance(call["padding"], str) else each(call["padding"], count)


@rule_for("pad", "constant_pad_nd")
def pad(call: Call) -> Result:
    """New entries around the old: constants are interchangeable, copies of others are not."""
    value, mode = call["self"], call.arguments.get("mode", "constant")
    amounts = list(call["pad"])
    axes = list(value.axes)
    for k in range(len(amounts) // 2):
        before, after = amounts[2 * k], amounts[2 * k + 1]
        if before == after == 0:
            continue
        if mode == "constant" and before >= 0 and after >= 0:
            axes[-1 - k] = total([Term(before), axes[-1 - k], Term(after)])
        else:
            call.mix(value, [-1 - k], POSITION)
            axes[-1 - k] = Term(call.shape[-1 - k], reason=POSITION)
    return tuple(axes)


@rule_for("im2col")
def im2col(call: Call) -> Result:
    """Patches: axis -2 is channels x kernel positions."""
    *before, channels, _, _ = call["self"].axes
    call.mix(call["self"], [-2, -1], POSITION)
    spots = fixed((call.shape[-2] // channels.size,), "kernel position")
    call.together(*before, channels, *spots)
    return (*before, product([channels, *spots]), *fixed(call.shape[-1:], POSITION))


@rule_for("col2im")
def col2im(call: Call) -> Result:
    """The sum of overlapping patches, the inverse of `im2col`."""
    *before, entries, _ = call["self"].axes
    call.mix(call["self"], [-1], POSITION)
    channels = Term(call.shape[-3])
    spots = fixed((entries.size // channels.size,), "kernel position")
    tie(entries, product([channels, *spots]))
    call.together(*before, channels, *spots)
    call.together(*before, channels)
    return (*before, channels, *fixed(call.shape[-2:], POSITION))


@rule_for("unfold")
def unfold(call: Call) -> Result:
    """Windows along one axis, which become a last axis."""
    value, dim = call["self"], call["dimension"] % len(call["self"].axes)
    call.mix(value, [dim], POSITION)
    axes = list(value.axes)
    axes[dim] = Term(call.shape[dim], reason=POSITION)
    return (*axes, *fixed(call.shape[-1:], "position in a window"))


@rule_for("grid_sampler", "grid_sampler_2d")
def grid_sample(call: Call) -> Result:
    """Each channel at positions that another tensor gives."""
    value, grid = call["input"], call["grid"]
    call.mix(value, range(2, len(value.axes)), POSITION)
    call.mix(grid, range(1, len(grid.axes)), POSITION)
    tie(value.axes[0], grid.axes[0])
    return (*value.axes[:2], *fixed(call.shape[2:], POSITION))


@rule_for("roll")
def roll(call: Call) -> Result:
    """Positions are shifted cyclically along the given axes."""
    return in_order(call, call["dims"] or range(len(call.shape)), "shifted cyclically")


@rule_for("flip")
def flip(call: Call) -> Result:
    """The given axes are read backwards."""
    return in_order(call, call["dims"], "read backwards")


@rule_for("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def cumulative(call: Call) -> Result:
    """The order along one axis matters."""
    return [in_order(call, [call["dim"]], "summed in order") for _ in call.shapes]


def in_order(call: Call, dims: Sequence[int], reason: str) -> Axes:
    """Fix some axes, whatever their length in the result; the others pass."""
    axes = list(call["self"].axes)
    call.mix(call["self"], dims, reason)
    for dim in dims:
        axes[dim] = Term(call.shape[dim], reason=reason)
    return tuple(axes)
