"""Normalisation layers."""

from symport.symmetry.calls import (
    Call,
    Result,
    Value,
    pinned,
    rule_for,
)
from symport.symmetry.terms import Term, product, tie


def _along(value: Value, place: int, *vectors: Value | None) -> None:
    """Tie vectors to one axis."""
    for vector in vectors:
        if vector is not None:
            tie(value.axes[place], vector.axes[0])


@rule_for(
    "batch_norm",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "instance_norm",
)
def batch_norm(call: Call) -> Result:
    """Each unit of axis 1 on its own: running statistics, or those of the input."""
    value = call["input"]
    known = call.arguments
    vectors = [known.get(k) for k in ("weight", "bias", "running_mean", "running_var")]
    _along(value, 1, *vectors)
    if "no_training" not in str(call.op):
        alone = value.axes[:2] if "instance" in str(call.op) else value.axes[1:2]
        call.alone(*alone)
    statistics = [(value.axes[1],) if shape and shape[0] else () for shape in call.shapes[1:]]
    return [value.axes, *(s or pinned((0,), "") for s in statistics)]


@rule_for("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Result:
    """The last axes together."""
    value, count = call["input"], len(call["normalized_shape"])
    for vector in call.tensors[1:]:
        for k in range(1, count + 1):
            tie(value.axes[-k], vector.axes[-k])
    outer = value.axes[:-count]
    call.alone(*outer)
    kept = (*outer, *(Term(1) for _ in range(count)))
    return [value.axes, *(kept for _ in call.shapes[1:])]


@rule_for("group_norm")
def group_norm(call: Call) -> Result:
    """Axis 1 is read as groups x units; each group is normalised with its positions."""
    value, groups = call["input"], call["num_groups"]
    outer, inner = Term(groups), Term(value.shape[1] // groups)
    tie(value.axes[1], product([outer, inner]))
    _along(value, 1, call["weight"], call["bias"])
    call.alone(value.axes[0], outer)
    return value.axes


@rule_for("native_group_norm")
def native_group_norm(call: Call) -> Result:
    """As group_norm, and its statistics."""
    value, groups = call["input"], call["group"]
    outer, inner = Term(groups), Term(value.shape[1] // groups)
    tie(value.axes[1], product([outer, inner]))
    _along(value, 1, call["weight"], call["bias"])
    call.alone(value.axes[0], outer)
    return [value.axes, (value.axes[0], outer), (value.axes[0], outer)]


@rule_for("_weight_norm", "_weight_norm_interface")
def weight_norm(call: Call) -> Result:
    """V g / |v|, the norm being over all axes but one."""
    v, g, dim = call["v"], call["g"], call["dim"]
    for a, b in zip(v.axes, g.axes, strict=False):
        if b.size != 1:
            tie(a, b)
    call.alone(*(() if dim == -1 else (v.axes[dim],)))
    norms = tuple(a if b.size != 1 else Term(1) for a, b in zip(v.axes, g.axes, strict=False))
    return [v.axes, *(norms for _ in call.shapes[1:])]


@rule_for("norm_except_dim")
def norm_except_dim(call: Call) -> Result:
    """The norm over all axes but one."""
    v, dim = call["v"], call["dim"]
    if dim == -1:
        return ()
    place = dim % len(v.axes)
    return tuple(term if k == place else Term(1) for k, term in enumerate(v.axes))
