"""Rules of pooling and resampling: each channel on its own."""

from symport.symmetry._terms import tie
from symport.symmetry.axes import Call, Result, Value, fixed, rule_for
from symport.symmetry.rules._layout import axes_without
from symport.symmetry.rules._spatial import POSITION, each, kept_positions


@rule_for(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
)
def resample(call: Call) -> Result:
    """Each channel on its own; positions are fixed where they are mixed."""
    value = call.tensors[0]
    kept = _unchanged(value, call)
    sizes = zip(value.shape[kept:], call.shape[kept:], strict=True)
    still = _untouched(call, len(value.axes) - kept)
    same = [a == b and unmixed for (a, b), unmixed in zip(sizes, still, strict=True)]
    axes = (*value.axes[:kept], *kept_positions(call, value, same))
    return [axes for _ in call.shapes]  # places of maxima are those in a channel's own plane


def _untouched(call: Call, count: int) -> list[bool]:
    """For each axis, whether every result comes from one position, its own if lengths agree."""
    if "kernel_size" not in call.arguments:  # resampled: unmixed unless there is a scale
        scales = [v for name, v in call.arguments.items() if name.startswith("scale")]
        return [all(v in (None, 1.0, [1.0] * count) for v in scales)] * count
    if call.uses(1):
        return [False] * count
    kernel, padding = each(call["kernel_size"], count), each(call["padding"], count)
    return [size == 1 and pad == 0 for size, pad in zip(kernel, padding, strict=True)]


def _unchanged(value: Value, call: Call) -> int:
    """Number of axes before the positions."""
    digit = next(k for k in "123" if f"{k}d" in str(call.op))
    return len(value.axes) - int(digit)


@rule_for(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
)
def adaptive_pool(call: Call) -> Result:
    """Reduced to one position, a mean or maximum over all; otherwise as any pooling."""
    value = call["self"]
    kept = _unchanged(value, call)
    if call.uses(1):
        return resample(call)
    gone = [dim for dim in range(kept, len(value.axes)) if call.shape[dim] == 1]
    call.together(*axes_without(value.axes, gone))
    same = [call.shape[dim] in (1, value.shape[dim]) for dim in range(kept, len(value.axes))]
    axes = (*value.axes[:kept], *kept_positions(call, value, same, gone))
    return [axes for _ in call.shapes]


@rule_for("max_unpool2d", "max_unpool3d")
def unpool(call: Call) -> Result:
    """Each channel on its own, written at the places of its maxima."""
    value, places = call["self"], call["indices"]
    kept = _unchanged(value, call)
    for a, b in zip(value.axes, places.axes, strict=True):
        tie(a, b)
    call.mix(value, range(kept, len(value.axes)), POSITION)
    return (*value.axes[:kept], *fixed(call.shape[kept:], POSITION))
