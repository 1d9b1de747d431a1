"""Rules of writing at places given by indices or a mask."""

from typing import cast

from symport.symmetry._terms import Term, tie
from symport.symmetry.axes import Axes, Call, Result, Value, rule_for, unknown
from symport.symmetry.rules._index import INDEXED, looked_up
from symport.symmetry.rules._layout import axes_without


@rule_for("scatter", "scatter_add", "scatter_reduce")
def scatter(call: Call) -> Result:
    """Written along one axis by index."""
    value, places, dim = call["self"], call["index"], call["dim"] % len(call.shape)
    sources = [places, *([call["src"]] if isinstance(call.arguments.get("src"), Value) else [])]
    for k, axis in enumerate(value.axes):
        for source in sources:
            if k != dim and source.axes[k].size == axis.size:
                tie(axis, source.axes[k])
            elif k != dim:
                call.fix([axis, source.axes[k]], INDEXED)
    for a, b in zip(places.axes, sources[-1].axes, strict=True):
        if a.size == b.size:
            tie(a, b)
        else:
            call.fix([a, b], INDEXED)
    if str(call.op) == "aten.scatter.src" and places.axes:
        call.fix([places.axes[dim]], "written in order")  # of those at one place the last remains
    others = axes_without(value.axes, [dim])
    if not call.follow(places, value.axes[dim], others, others):
        call.mix(value, [dim], INDEXED)
    return value.axes


@rule_for("index_put")
def index_put(call: Call) -> Result:
    """`x[indices] = values`, or added to what is there; one index may be a mask."""
    value, source = call["self"], call["values"]
    places = cast("list[Value | None]", call["indices"])
    chosen = [place for place in places if place is not None]
    if not any(call.is_mask(place) for place in chosen):
        if not call["accumulate"]:
            for place in chosen:
                call.fix(place.axes, "written in order")
        return _overwritten(call, value, source, looked_up(call, value, places))
    if len(chosen) > 1:
        return unknown(call)
    mask, first = chosen[0], places.index(chosen[0])
    last = first + len(mask.axes)
    for a, b in zip(value.axes[first:last], mask.axes, strict=True):
        tie(a, b)
    return _overwritten(
        call, value, source, (*value.axes[:first], Term(1), *value.axes[last:]), entries=True
    )


def _overwritten(
    call: Call, value: Value, source: Value, places: Axes, *, entries: bool = False
) -> Result:
    """Tie the axes of the source to those of the places where it is written, with broadcasting.

    With `entries`, an axis of length 1 represents the entries that a mask picks, in order.
    """
    for a, b in zip(reversed(places), reversed(source.axes), strict=False):
        if b.size != 1 and a.size == 1 and entries:
            return unknown(call)
        if b.size != 1:
            tie(a, b)
    return value.axes


@rule_for("index_add", "index_copy", "index_reduce", "index_fill")
def index_add(call: Call) -> Result:
    """Rows along one axis are overwritten, or added to in any order, by index."""
    value, places, source = call["self"], call["index"], call.arguments.get("source")
    dim = call["dim"] % max(len(value.axes), 1)
    if "index_copy" in str(call.op):
        call.fix(places.axes, "written in order")
    if not call.follow(places, value.axes[dim], units=axes_without(value.axes, [dim])):
        call.mix(value, [dim], INDEXED)
    for k, term in enumerate(source.axes if isinstance(source, Value) else ()):
        tie(term, value.axes[k] if k != dim else places.axes[0] if places.axes else Term(1))
    return value.axes
