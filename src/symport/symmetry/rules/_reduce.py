"""Rules of sums, means and maxima over axes, and of softmax."""

from typing import cast

from symport.symmetry._terms import Term, tie
from symport.symmetry.axes import Axes, Call, Result, Value, pointwise, rule_for


def reduced(value: Value, dims: list[int] | int | None, *, keep: bool) -> Axes:
    """The axes after a reduction; without `dims`, over all of them."""
    count = len(value.axes)
    chosen = [dims] if isinstance(dims, int) else (dims or list(range(count)))
    gone = {dim % count for dim in chosen} if count else set[int]()
    kept = [Term(1) if k in gone else term for k, term in enumerate(value.axes)]
    return tuple(term for k, term in enumerate(kept) if keep or k not in gone)


@rule_for(
    "sum",
    "mean",
    "prod",
    "amax",
    "amin",
    "std",
    "var",
    "logsumexp",
    "linalg_vector_norm",
    "norm",
    "any",
    "all",
    "nansum",
    "var_mean",
    "std_mean",
)
def reduce(call: Call) -> Result:
    """Reduced over axes, in any order of their positions."""
    axes = _reduced(call)
    return [axes for _ in call.shapes]


def _reduced(call: Call) -> Axes:
    dims = cast("list[int] | int | None", call.arguments.get("dim"))
    keep = bool(call.arguments.get("keepdim", False))
    return reduced(call.tensors[0], dims, keep=keep)


@rule_for("max", "min", "median", "nanmedian", "mode", "kthvalue")
def extreme(call: Call) -> Result:
    """A maximum along an axis, with its place, or of two tensors entry by entry."""
    if len(call.tensors) == 2:
        return pointwise(call)
    axes = _reduced(call)
    if len(call.shapes) == 2:
        call.finds(1, call.tensors[0].axes[call["dim"]])
    return [axes for _ in call.shapes]


@rule_for("softmax", "_softmax", "log_softmax", "_log_softmax", "softmin")
def softmax(call: Call) -> Result:
    """Entry by entry, except for a sum over one axis."""
    value = call["self"]
    call.together(*reduced(value, call["dim"], keep=False))
    return value.axes


@rule_for("cosine_similarity")
def cosine_similarity(call: Call) -> Result:
    """A sum of products over one axis, and the norms."""
    x, y = call.tensors
    dim = call["dim"]
    for a, b in zip(reversed(x.axes), reversed(y.axes), strict=False):
        if a.size != 1 and b.size != 1:
            tie(a, b)
    count = max(len(x.axes), len(y.axes))
    wide = [
        next((t for v in (x, y) if len(v.axes) >= k and (t := v.axes[-k]).size != 1), Term(1))
        for k in range(count, 0, -1)
    ]
    del wide[dim]
    for value in (x, y):
        kept = reduced(value, dim if len(value.axes) == count else [dim], keep=False)
        call.together(*kept)
    return tuple(wide)
