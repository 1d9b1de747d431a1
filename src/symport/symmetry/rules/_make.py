"""Tensors made in the graph."""

from symport.symmetry.axes import Call, Result, fresh, pinned, rule_for


@rule_for(
    "full",
    "full_like",
    "zero",
    "zeros",
    "zeros_like",
    "ones",
    "ones_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "scalar_tensor",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
)
def constant(call: Call) -> Result:
    """All entries alike: any axis may be permuted. Those of `empty` are written before use."""
    return fresh(call.shape)


@rule_for("eye")
def eye(call: Call) -> Result:
    """A unit matrix is the same when rows and columns are permuted alike."""
    rows, columns = call.shape
    if rows != columns:
        return pinned(call.shape, "part of a diagonal")
    (units,) = fresh([rows])
    return (units, units)


@rule_for("arange", "linspace")
def counted(call: Call) -> Result:
    """Entries that count positions."""
    return pinned(call.shape, "counts positions")
