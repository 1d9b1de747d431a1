"""Pooling and resampling: each channel on its own."""

from symport.symmetry.calls import Call, Result, Value, pinned, rule_for
from symport.symmetry.rules.spatial import POSITION
from symport.symmetry.terms import Term, tie


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
    """Each channel on its own; positions stay."""
    value = call.tensors[0]
    kept = _unchanged(value, call)
    call.pin(value.axes[kept:], POSITION)
    axes = (*value.axes[:kept], *pinned(call.shape[kept:], POSITION))
    return [axes for _ in call.shapes]  # places of maxima are those in a channel's own plane


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
    """To one position: a mean or maximum over all, else as any pooling."""
    value = call["self"]
    kept = _unchanged(value, call)
    if all(size == 1 for size in call.shape[kept:]) and not call.uses(1):
        axes = (*value.axes[:kept], *(Term(1) for _ in call.shape[kept:]))
        return [axes for _ in call.shapes]
    return resample(call)


@rule_for("max_unpool2d", "max_unpool3d")
def unpool(call: Call) -> Result:
    """Each channel on its own, written at the places of its maxima."""
    value, places = call["self"], call["indices"]
    kept = _unchanged(value, call)
    for k, (a, b) in enumerate(zip(value.axes, places.axes, strict=True)):
        tie(a, b)
        if k >= kept:
            call.pin([a], POSITION)
    return (*value.axes[:kept], *pinned(call.shape[kept:], POSITION))
