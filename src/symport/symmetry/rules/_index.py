"""Rules of look-ups by index, and of operations that find indices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from symport.symmetry._terms import Term, tie
from symport.symmetry.axes import Axes, Call, Result, Value, broadcast, fixed, rule_for, unknown
from symport.symmetry.rules._layout import axes_without
from symport.symmetry.rules._reduce import reduced

INDEXED = "indexed by positions or data"


@rule_for("embedding")
def embedding(call: Call) -> Result:
    """Rows of a table: its rows are fixed unless the places were found along them."""
    table, places = call["weight"], call["indices"]
    if not call.follow(places, table.axes[0], units=table.axes[1:]):
        call.mix(table, [0], "indexed by data (vocabulary, positions)")
    return (*places.axes, table.axes[1])


@rule_for("embedding_bag", "_embedding_bag")
def embedding_bag(call: Call) -> Result:
    """Sums, means or maxima of rows of a table."""
    table, *others = call.tensors
    call.mix(table, [0], "indexed by data (vocabulary, positions)")
    for value in others:
        call.fix(value.axes, INDEXED)
    if call.uses(3):
        call.fix(table.axes, "places of maxima")
    bags = fixed(call.shape[:1], INDEXED)
    return [(*bags, table.axes[1]), *(fixed(shape or (), INDEXED) for shape in call.shapes[1:])]


@rule_for("diagonal")
def diagonal(call: Call) -> Result:
    """The two axes are tied, and the diagonal comes last."""
    value = call["self"]
    dims = [dim % len(value.axes) for dim in (call["dim1"], call["dim2"])]
    a, b = (value.axes[dim] for dim in dims)
    rest = [term for k, term in enumerate(value.axes) if k not in dims]
    if call["offset"] or a.size != b.size:
        call.mix(value, dims, "part of a diagonal")
        return (*rest, *fixed(call.shape[-1:], "part of a diagonal"))
    tie(a, b)
    return (*rest, a)


@rule_for("diag_embed")
def diag_embed(call: Call) -> Result:
    """The last axis on a diagonal, zeros elsewhere."""
    *axes, last = call["self"].axes
    if call["offset"]:
        return unknown(call)
    dims = sorted(dim % len(call.shape) for dim in (call["dim1"], call["dim2"]))
    for dim in dims:
        axes.insert(dim, last)
    return tuple(axes)


@rule_for("index_select")
def index_select(call: Call) -> Result:
    """Chosen positions of one axis."""
    value, dim = call["self"], call["dim"]
    places = call["index"] if call["index"].axes else replace(call["index"], axes=(Term(1),))
    return looked_up(call, value, [*[None] * (dim % len(value.axes)), places])


@rule_for("index")
def index(call: Call) -> Result:
    """Indexed axes are replaced by those of the indices; the others pass."""
    return looked_up(call, call["self"], cast("list[Value | None]", call["indices"]))


def looked_up(call: Call, value: Value, places: Sequence[Value | None]) -> Axes:
    """The axes of `value[places]`, where None stands for a whole axis."""
    dims = [k for k, place in enumerate(places) if place is not None]
    chosen = [place for place in places if place is not None]
    others = axes_without(value.axes, dims)
    if len(chosen) == 1 and call.follow(chosen[0], value.axes[dims[0]], units=others):
        return (*value.axes[: dims[0]], *chosen[0].axes, *value.axes[dims[0] + 1 :])
    call.mix(value, dims, INDEXED)
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    at = dims[0] if adjacent else 0
    return (*others[:at], *broadcast(chosen), *others[at:])


@rule_for("gather")
def gather(call: Call) -> Result:
    """Looked up along one axis; all others are tied where they have the same length."""
    value, places, dim = call["self"], call["index"], call["dim"] % len(call.shape)
    others = axes_without(value.axes, [dim])
    for k, (a, b) in enumerate(zip(value.axes, places.axes, strict=True)):
        if k == dim and call.follow(places, a, others, others):
            continue
        if k == dim:
            call.mix(value, [dim], INDEXED)
        elif a.size != b.size:
            call.fix([a, b], INDEXED)
        else:
            tie(a, b)
    return places.axes


@rule_for("tril", "triu")
def triangle(call: Call) -> Result:
    """The last two axes are fixed, since their positions are compared."""
    value = call["self"]
    call.fix(value.axes[-2:], "triangular mask")
    return value.axes


@rule_for("topk", "sort", "argsort", "msort")
def ranked(call: Call) -> Result:
    """Values in order along one axis, and their places along it."""
    value, dim = call["self"], call.arguments.get("dim", 0)
    axes = list(value.axes)
    found = axes[dim] if axes else Term(1)
    call.finds(len(call.shapes) - 1, found)
    if axes:
        axes[dim] = Term(call.shape[dim], reason="in order of size")
        call.together(*(term for k, term in enumerate(value.axes) if k != dim % len(axes)))
    if len(call.shapes) == 1 and "argsort" not in str(call.op):
        call.fix([found], "sorted")
    return [tuple(axes) for _ in call.shapes]


@rule_for("argmax", "argmin")
def argmax(call: Call) -> Result:
    """The place of the largest or smallest along an axis."""
    value, dim = call["self"], call["dim"]
    if dim is None or not value.axes:
        call.fix(value.axes, "used as an index (argmax)")
        return fixed(call.shape, "used as an index (argmax)")
    call.finds(0, value.axes[dim])
    return reduced(value, dim, keep=call["keepdim"])


@rule_for("one_hot")
def one_hot(call: Call) -> Result:
    """A new axis with a one at each place."""
    places = call["self"]
    axis = Term(call.shape[-1])
    if not call.follow(places, axis, places.axes):
        call.fix([axis], INDEXED)
    return (*places.axes, axis)


@rule_for("_grouped_mm", "transformers.grouped_mm_fallback")
def grouped_mm(call: Call) -> Result:
    """Rows that are sorted by expert, each times the matrix of its expert."""
    x, weight, ends = call.tensors[:3]
    if len(x.axes) != 2 or len(weight.axes) != 3:
        return unknown(call)
    rows, inner = x.axes
    experts, columns, units = weight.axes
    tie(inner, columns)
    tie(experts, ends.axes[0])
    call.fix([rows, experts], "rows are sorted by expert")
    call.belong(ends.name, (rows,), experts)
    call.together(rows, inner)
    return (rows, units)
