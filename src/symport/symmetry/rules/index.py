"""Looking up rows by index."""

from typing import cast

from symport.symmetry.calls import Call, Result, Value, pinned, rule_for, unknown
from symport.symmetry.rules.reduce import reduced
from symport.symmetry.terms import Term, pin, tie

INDEXED = "indexed by positions or data"


@rule_for("embedding")
def embedding(call: Call) -> Result:
    """Rows of a table: the table's rows stay, its columns move."""
    table, places = call["weight"], call["indices"]
    if not call.follow(places, table.axes[0]):
        call.pin(table.axes[:1], "indexed by data (vocabulary, positions)")
    return (*places.axes, table.axes[1])


@rule_for("index_select")
def index_select(call: Call) -> Result:
    """Chosen positions of one axis."""
    value, dim = call["self"], call["dim"]
    call.pin([value.axes[dim]], INDEXED)
    axes = list(value.axes)
    axes[dim] = Term(call.shape[dim], reason=INDEXED)
    return tuple(axes)


@rule_for("index")
def index(call: Call) -> Result:
    """Axes that are indexed stay, the others pass; the indices' axes come in their place."""
    value = call["self"]
    places = cast("list[Value | None]", call["indices"])
    dims = [k for k, place in enumerate(places) if place is not None]
    chosen = [place for place in places if place is not None]
    if len(chosen) == 1 and call.follow(chosen[0], value.axes[dims[0]]):
        return (*value.axes[: dims[0]], *chosen[0].axes, *value.axes[dims[0] + 1 :])
    call.pin([value.axes[k] for k in dims], INDEXED)
    for place in chosen:
        call.pin(place.axes, INDEXED)
    rest = [term for k, term in enumerate(value.axes) if k not in dims]
    count = len(call.shape) - len(rest)
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    at = dims[0] if adjacent else 0
    return (*rest[:at], *pinned(call.shape[at : at + count], INDEXED), *rest[at:])


@rule_for("gather")
def gather(call: Call) -> Result:
    """Along one axis by index; all others go along where they have the same length."""
    value, places, dim = call["self"], call["index"], call["dim"] % len(call.shape)
    for k, (a, b) in enumerate(zip(value.axes, places.axes, strict=True)):
        if k == dim and call.follow(places, a):
            continue
        if k == dim or a.size != b.size:
            pin(a, INDEXED)
            pin(b, INDEXED)
        else:
            tie(a, b)
    return places.axes


@rule_for("tril", "triu")
def triangle(call: Call) -> Result:
    """Positions in the last two axes are compared."""
    value = call["self"]
    call.pin(value.axes[-2:], "triangular mask")
    return value.axes


@rule_for("topk", "sort", "argsort", "msort")
def ranked(call: Call) -> Result:
    """Values in order along one axis, and their places on it."""
    value, dim = call["self"], call.arguments.get("dim", 0)
    axes = list(value.axes)
    found = axes[dim] if axes else Term(1)
    call.finds(len(call.shapes) - 1, found)
    if axes:
        axes[dim] = Term(call.shape[dim], reason="in order of size")
        call.alone(*(term for k, term in enumerate(value.axes) if k != dim % len(axes)))
    if len(call.shapes) == 1 and "argsort" not in str(call.op):
        call.pin([found], "sorted")
    return [tuple(axes) for _ in call.shapes]


@rule_for("argmax", "argmin")
def argmax(call: Call) -> Result:
    """The place of the largest or smallest along an axis."""
    value, dim = call["self"], call["dim"]
    if dim is None or not value.axes:
        call.pin(value.axes, "used as an index (argmax)")
        return pinned(call.shape, "used as an index (argmax)")
    call.finds(0, value.axes[dim])
    return reduced(value, dim, keep=call["keepdim"])


@rule_for("one_hot")
def one_hot(call: Call) -> Result:
    """A new axis with a one at each place."""
    places = call["self"]
    axis = Term(call.shape[-1])
    if not call.follow(places, axis):
        call.pin([axis], INDEXED)
    return (*places.axes, axis)


@rule_for("scatter", "scatter_add")
def scatter(call: Call) -> Result:
    """Written along one axis by index."""
    value, places, dim = call["self"], call["index"], call["dim"] % len(call.shape)
    sources = [places, *([call["src"]] if isinstance(call.arguments.get("src"), Value) else [])]
    for k, axis in enumerate(value.axes):
        for source in sources:
            if k != dim and source.axes[k].size == axis.size:
                tie(axis, source.axes[k])
            elif k != dim:
                call.pin([axis, source.axes[k]], INDEXED)
    for a, b in zip(places.axes, sources[-1].axes, strict=True):
        if a.size == b.size:
            tie(a, b)
        else:
            call.pin([a, b], INDEXED)
    if not call.follow(places, value.axes[dim]):
        call.pin([value.axes[dim]], INDEXED)
    return value.axes


@rule_for("_grouped_mm", "transformers.grouped_mm_fallback")
def grouped_mm(call: Call) -> Result:
    """Rows that are sorted by expert, each times the matrix of its own."""
    x, weight, ends = call.tensors[:3]
    if len(x.axes) != 2 or len(weight.axes) != 3:
        return unknown(call)
    rows, inner = x.axes
    experts, columns, units = weight.axes
    tie(inner, columns)
    tie(experts, ends.axes[0])
    call.pin([rows, experts], "rows are sorted by expert")
    call.belong(ends.name, (rows,), experts)
    call.alone(rows, inner)
    return (rows, units)
