"""Rules of operations that make tensors."""

from symport.symmetry.axes import Call, Result, fixed, fresh, rule_for


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
    """All entries are equal, so any axis may be permuted; those of `empty` are written first."""
    return fresh(call.shape)


@rule_for("eye")
def eye(call: Call) -> Result:
    """A unit matrix is unchanged when one permutation moves its rows and columns."""
    rows, columns = call.shape
    if rows != columns:
        return fixed(call.shape, "part of a diagonal")
    (units,) = fresh([rows])
    return (units, units)


@rule_for("arange", "linspace")
def counted(call: Call) -> Result:
    """The entries count positions, which are fixed."""
    return fixed(call.shape, "counts positions")
