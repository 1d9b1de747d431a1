"""Looking up rows by index."""

from typing import cast

from symport.symmetry.calls import Call, Result, Value, pinned, rule_for
from symport.symmetry.terms import Term, pin, tie

INDEXED = "indexed by positions or data"


@rule_for("embedding")
def embedding(call: Call) -> Result:
    """Rows of a table: the table's rows stay, its columns move."""
    table, places = call["weight"], call["indices"]
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
    call.pin([value.axes[k] for k in dims], INDEXED)
    chosen = [place for place in places if place is not None]
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
