"""Rules of operations entry by entry that torch does not tag as pointwise."""

from symport.symmetry._terms import tie
from symport.symmetry.axes import Call, Result, Value, fixed, fresh, pointwise, rule_for, unknown


@rule_for(
    "_to_copy",
    "alias",
    "detach",
    "contiguous",
    "lift_fresh_copy",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "relu6",
    "log_sigmoid",
    "selu",
    "celu",
    "elu",
    "threshold",
    "softplus",
    "where",
    "masked_fill",
    "nan_to_num",
    "complex",
    "polar",
    "real",
    "imag",
    "conj",
    "_conj",
    "_conj_physical",
    "resolve_conj",
    "resolve_neg",
    "_neg_view",
)
def same(call: Call) -> Result:
    """Pointwise, though torch does not tag them so."""
    return pointwise(call)


@rule_for("mul")
def multiply(call: Call) -> Result:
    """Pointwise; times the number zero, all entries are equal (if they are finite)."""
    numbers = [other for other in call.arguments.values() if isinstance(other, (int, float))]
    return fresh(call.shape) if 0 in numbers else pointwise(call)


@rule_for("to", "type_as")
def as_type(call: Call) -> Result:
    """The same entries in another dtype or on another device, which another tensor may give."""
    return call["self"].axes


@rule_for("copy", "fill")
def overwrite(call: Call) -> Result:
    """The new entries, broadcast to the shape of the old ones."""
    source = call.arguments.get("src")
    new = source.axes if isinstance(source, Value) else ()
    old = fresh(call.shape[: len(call.shape) - len(new)])
    wide = fresh(call.shape[len(old) :])
    return (*old, *(b if a.size == 1 else a for a, b in zip(new, wide, strict=True)))


@rule_for("_assert_tensor_metadata", "_assert_async", "_assert_scalar")
def nothing(call: Call) -> Result:
    """An assertion has no result."""
    return [() for _ in call.shapes]


@rule_for("bucketize")
def bucketize(call: Call) -> Result:
    """Entry by entry; the boundaries are sorted and so fixed."""
    call.fix(call["boundaries"].axes, "boundaries in order")
    return call["self"].axes if isinstance(call["self"], Value) else ()


@rule_for("prelu")
def prelu(call: Call) -> Result:
    """One slope for all, or one for each unit of axis 1."""
    x, slope = call["self"], call["weight"]
    if slope.axes and slope.axes[0].size > 1:
        tie(x.axes[1], slope.axes[0])
    return x.axes


@rule_for(
    "dropout",
    "native_dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "rrelu",
)
def dropout(call: Call) -> Result:
    """The identity in evaluation mode; a random mask belongs to positions, not units."""
    train = call.arguments.get("train", call.arguments.get("training"))
    if train is False or call.arguments.get("p", 1.0) == 0.0:
        return [call.tensors[0].axes for _ in call.shapes]
    result = unknown(call)
    call.fix(call.tensors[0].axes, "dropout that is active in evaluation mode")
    return result


@rule_for("view_as_real")
def view_as_real(call: Call) -> Result:
    """A last axis for the real and the imaginary part."""
    return (*call["self"].axes, *fixed((2,), "real and imaginary part"))


@rule_for("view_as_complex")
def view_as_complex(call: Call) -> Result:
    """The last axis holds the real and the imaginary part."""
    *axes, pair = call["self"].axes
    call.fix([pair], "real and imaginary part")
    return tuple(axes)
