"""Rules of normalisation layers."""

import itertools

from symport.symmetry._terms import Term, parts, product, split, tie, total
from symport.symmetry.axes import Call, Result, Value, fixed, rule_for


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
    """Each unit of axis 1 on its own, by running statistics or those of the input."""
    value = call["input"]
    known = call.arguments
    vectors = [known.get(k) for k in ("weight", "bias", "running_mean", "running_var")]
    _along(value, 1, *vectors)
    if "no_training" not in str(call.op):
        alone = value.axes[:2] if "instance" in str(call.op) else value.axes[1:2]
        call.together(*alone)
    statistics = [(value.axes[1],) if shape and shape[0] else () for shape in call.shapes[1:]]
    return [value.axes, *(s or fixed((0,), "") for s in statistics)]


@rule_for("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Result:
    """Normalised over the last axes together."""
    value, count = call["input"], len(call["normalized_shape"])
    for vector in call.tensors[1:]:
        for k in range(1, count + 1):
            tie(value.axes[-k], vector.axes[-k])
    outer = value.axes[:-count]
    call.together(*outer)
    kept = (*outer, *(Term(1) for _ in range(count)))
    return [value.axes, *(kept for _ in call.shapes[1:])]


@rule_for("group_norm", "native_group_norm")
def group_norm(call: Call) -> Result:
    """Axis 1 is groups x units; each group is normalised over its units and positions."""
    value = call["input"]
    count = call.arguments.get("num_groups") or call["group"]
    groups = _grouped(value.axes[1], value.shape[1] // count)
    _along(value, 1, call["weight"], call["bias"])
    call.together(value.axes[0], groups)
    return [value.axes, *((value.axes[0], groups) for _ in call.shapes[1:])]


def _grouped(channels: Term, size: int) -> Term:
    """Split channels into groups of one size, each part of a concatenation on its own.

    A group that lies across two parts is a single position; its units remain in their parts.
    """
    ends = list(itertools.accumulate(part.size for part in parts(channels)))
    cuts = sorted({k for end in ends for k in (end // size * size, -(-end // size) * size)} | {0})
    pieces = split(channels, [b - a for a, b in itertools.pairwise(cuts)])
    groups: list[Term] = []
    for start, piece in zip(cuts, pieces, strict=False):
        outer, inner = Term(piece.size // size), Term(size)
        if not any(start < end < start + piece.size for end in ends):
            tie(piece, product([outer, inner]))
        groups.append(outer)
    return total(groups)


@rule_for("_weight_norm", "_weight_norm_interface")
def weight_norm(call: Call) -> Result:
    """V g / |v|, the norm being over all axes but one."""
    v, g, dim = call["v"], call["g"], call["dim"]
    for a, b in zip(v.axes, g.axes, strict=False):
        if b.size != 1:
            tie(a, b)
    call.together(*(() if dim == -1 else (v.axes[dim],)))
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
