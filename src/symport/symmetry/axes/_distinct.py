"""Whether the entries of a value are distinct, so that places found among them can be followed.

A place that is found along an axis (by argmax, top-k, a sort) follows a permutation of that axis
only if the entries there differ. Weights differ, and so do sums, products and smooth functions of
them. Padding, a ReLU, a mask, whole numbers and constants may make entries equal.
"""

import functools
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import torch

from symport.symmetry._terms import Term, atoms
from symport.symmetry.axes._entries import Entries, Level
from symport.symmetry.axes._kinds import KIND_OF
from symport.symmetry.axes._masking import finds_what_is_left, left_over, marked, number, positive
from symport.symmetry.axes._registry import Axes, Call, Value, values_in
from symport.symmetry.graph import Graph

COPIES = "places among entries that may be copies of each other"


def source_entries(name: str, place: int, statistics: Collection[str], graph: Graph) -> Entries:
    """What is known about the entries of a source; `place` is its number among all sources."""
    source = graph.sources[name]
    if source.kind == "weight" or graph.aliases.get(source.target, source.target) in statistics:
        return Entries(Level.FREE, weights=1 << place)
    inexact = name in graph.inexact
    differ = inexact and (source.kind == "input" or source.shape == ())
    cause = f"{source.kind} {source.target}".strip()
    return Entries(Level.FREE if differ else Level.EQUAL, cause)


def result_entries(call: Call, axes: Axes, place: int = 0) -> Entries:
    """What is known about the entries of a result; `place` is its number among several."""
    kind, tensors = KIND_OF.get(call.short, ""), call.tensors
    weights = functools.reduce(operator.or_, (v.entries.weights for v in tensors), 0)
    if place and kind in ("pick", "norm", "attention"):  # places; in a ranking each comes once
        ranked = call.short in ("topk", "sort")
        return Entries(Level.BOUND if ranked else Level.EQUAL, call.short, weights)
    level, marks = _level(call, kind, axes), marked(call)
    if left := left_over(call):
        level, marks = Level.RANKED, left
    elif level is Level.RANKED:
        marks = tensors[0].entries.marks
    causes = [v.entries.cause for v in tensors if v.entries.level is Level.EQUAL]
    cause = causes[0] if causes and kind in ("whole", "moved") else call.short
    return Entries(level, cause, weights, positive(call), marks, number(call))


def why_undecided(call: Call, axis: Term) -> str:
    """Why places that an operation finds along an axis may not follow it; empty if they do."""
    if not call.tensors:
        return ""
    value = call.tensors[0]
    known = value.entries
    met = Counter(atoms(axis))
    if max(met.values(), default=0) > 1:
        return COPIES
    # These give the first of several equal entries, which is the first position of the same unit.
    first = call.short in ("argmax", "argmin", "max", "min")
    free = {atom.reason is None for atom in met}
    if not first and (_uniform_atoms(value) & met.keys() or len(free) > 1):
        return COPIES
    if known.level is Level.RANKED and not finds_what_is_left(call, known.marks, axis):
        return "places among entries that one mask makes equal"
    if known.level is Level.EQUAL:
        return f"places among entries that may be equal ({known.cause})"
    return ""


def _level(call: Call, kind: str, axes: Axes) -> Level:
    """How far the entries of a result differ."""
    level = LEVELS[kind](call, axes) if kind in LEVELS else Level.EQUAL
    ordered = kind == "whole" or call.short in ("softmax", "_softmax")
    return level if level is not Level.RANKED or ordered else Level.EQUAL


def _lowest(call: Call, _axes: Axes) -> Level:
    return min((v.entries.level for v in call.tensors), default=Level.EQUAL)


def _same(call: Call, axes: Axes) -> Level:
    kind = call.arguments.get("dtype")
    whole = isinstance(kind, torch.dtype) and not (kind.is_floating_point or kind.is_complex)
    return Level.EQUAL if whole else _lowest(call, axes)


def _even(call: Call, axes: Axes) -> Level:
    return Level.FREE if _lowest(call, axes) is Level.FREE else Level.EQUAL


def _root(call: Call, _axes: Axes) -> Level:
    """A root or logarithm of a negative number is not a number, so entries must be positive."""
    value = call.tensors[0].entries
    return value.level if value.positive else Level.EQUAL


def _summed(call: Call, axes: Axes) -> Level:
    return _even(call, axes) if not _spread_of_one(call) else Level.EQUAL


def _uniform_atoms(value: Value) -> set[Term]:
    return {atom for term in value.uniform_along for atom in atoms(term)}


def _free(terms: Iterable[Term]) -> Counter[Term]:
    return Counter(a for term in terms for a in atoms(term) if a.reason is None)


def _covers(value: Value, axes: Axes) -> bool:
    """Whether a value has entries of its own for every position of these axes that may move."""
    uniform = _uniform_atoms(value)
    own = Counter(atom for term in value.axes for atom in atoms(term) if atom not in uniform)
    return all(own[atom] >= count for atom, count in _free(axes).items())


def _sum(call: Call, axes: Axes) -> Level:
    """Sums of independent numbers are distinct if those of one of the summands are."""
    a = call.tensors
    level = min(v.entries.level for v in a)
    if len(a) == 1:
        return level
    covering = [v.entries.level for v in a if v.entries.level >= Level.BOUND and _covers(v, axes)]
    level = max([level if level >= Level.BOUND else Level.EQUAL, *covering])
    return level if call.short == "add" and call.arguments.get("alpha", 1) == 1 else _less(a, level)


def _less(values: Sequence[Value], level: Level) -> Level:
    """A difference or ratio of values that depend on common weights may cancel."""
    if not values[0].entries.weights & values[1].entries.weights:
        return level
    return Level.EQUAL if values[0].shape == values[1].shape else min(level, Level.BOUND)


def _times(call: Call, axes: Axes) -> Level:
    a = call.tensors
    levels = sorted(v.entries.level for v in a)
    if len(a) == 1:
        zero = 0 in [n for n in call.arguments.values() if isinstance(n, (int, float))]
        rounded = call.arguments.get("rounding_mode") is not None
        return Level.EQUAL if zero or rounded else levels[0]
    if levels[0] < Level.BOUND or call.arguments.get("rounding_mode") is not None:
        return Level.EQUAL
    dependent = bool(a[0].entries.weights & a[1].entries.weights)
    if call.short == "div":
        return _less(a, levels[0])
    if not dependent:
        free = [v for v in a if v.entries.level is Level.FREE]
        return Level.FREE if any(_covers(v, axes) for v in free) else levels[0]
    if a[0].shape == a[1].shape:
        return levels[0] if levels[0] is Level.FREE else Level.EQUAL
    return Level.BOUND


def _power(call: Call, _axes: Axes) -> Level:
    power = call.arguments.get("exponent")
    level = min(v.entries.level for v in call.tensors)
    if not isinstance(power, (int, float)) or not isinstance(call["self"], Value):
        return Level.EQUAL
    if power == 0 or (power != int(power) and not call["self"].entries.positive):
        return Level.EQUAL
    return level if level is Level.FREE or power % 2 else Level.EQUAL


def _either(call: Call, axes: Axes) -> Level:
    """Entries of one value or the other, each of which covers all axes that may move."""
    values = [v for v in call.tensors if not call.is_mask(v)]
    if call.short == "masked_scatter":  # each entry of the second is written once
        return min(v.entries.level for v in values)
    if len(values) != 2 or not all(_covers(v, axes) for v in values):
        return Level.EQUAL
    level = min(v.entries.level for v in values)
    return level if level >= Level.BOUND else Level.EQUAL


def _picked(call: Call, axes: Axes) -> Level:
    """Picked entries are distinct unless two rows share one, as those of `x xᵀ` do."""
    if len(call.tensors) == 2:
        return _either(call, axes)
    (value,) = call.tensors
    shared = max(_free(value.axes).values(), default=0) > 1 or bool(value.uniform_along)
    level = value.entries.level
    return Level.EQUAL if shared or level < Level.BOUND else level


def _shared(call: Call, _axes: Axes) -> Level:
    value = call["self"]
    if not value.axes or value.shape[call["dim"]] == 1:
        return Level.EQUAL
    return min(value.entries.level, Level.BOUND)


def _normed(call: Call, axes: Axes) -> Level:
    value, weight, bias = call["input"], call["weight"], call.arguments.get("bias")
    if bias is not None and bias.entries.level is Level.FREE and _covers(bias, axes):
        return Level.FREE
    count = len(call.arguments.get("normalized_shape", ()))
    many = max(value.shape[-count:]) > 1 if count else "no_training" in str(call.op)
    if value.entries.level < Level.BOUND or not many:
        return Level.EQUAL
    if weight is not None:
        return Level.FREE if weight.entries.level is Level.FREE else Level.EQUAL
    return Level.BOUND


def _product(call: Call, axes: Axes) -> Level:
    name, values = call.short, call.tensors
    bias = call.arguments.get("bias")
    if name in ("addmm", "baddbmm", "addmv", "addbmm"):
        bias = call["self"]
    levels = sorted(v.entries.level for v in values if v is not bias)
    if levels[0] >= Level.BOUND and levels[-1] is Level.FREE:
        return Level.FREE
    own = isinstance(bias, Value) and bias.entries.level is Level.FREE and _covers(bias, axes)
    return Level.FREE if own else Level.EQUAL


def _attended(call: Call, axes: Axes) -> Level:
    q, k, v = (call[name] for name in ("query", "key", "value"))
    sure = min(q.entries.level, k.entries.level) >= Level.BOUND or _covers(v, axes)
    return Level.FREE if sure and v.entries.level is Level.FREE else Level.EQUAL


def _looked_up(call: Call, _axes: Axes) -> Level:
    """A row may be looked up twice."""
    name = call.short
    table = call["weight" if name == "embedding" else "self"]
    found = call.arguments.get("indices") if name != "index_select" else None
    places = list(values_in([found if found is not None else call.arguments.get("index")]))
    if name == "gather":
        repeated = [call["index"].axes[call["dim"]]] if call["index"].axes else []
    else:
        repeated = [term for place in places for term in place.axes]
    return Level.EQUAL if _free(repeated) else table.entries.level


def _few_written(call: Call, _axes: Axes) -> Level:
    """A number is written at one place of each row, and rows are fixed."""
    value, places = call["self"], call["index"]
    dim = call["dim"]
    if isinstance(call.arguments.get("src"), Value) or not places.axes:
        return Level.EQUAL
    if places.shape[dim] != 1 or _free(places.axes) or value.entries.level < Level.BOUND:
        return Level.EQUAL
    return Level.BOUND


def _put(call: Call, _axes: Axes) -> Level:
    value, source = call["self"], call["values"]
    places = [v for v in values_in([call["indices"]]) if not call.is_mask(v)]
    whole = len(source.axes) == len(value.axes) and 1 not in source.shape
    if call["accumulate"] or _free(t for v in places for t in v.axes) or not whole:
        return Level.EQUAL
    level = min(value.entries.level, source.entries.level)
    return level if level >= Level.BOUND else Level.EQUAL


def _recurrent(call: Call, _axes: Axes) -> Level:
    level = call.tensors[0].entries.level
    return Level.FREE if level >= Level.BOUND else Level.EQUAL


def _number(call: Call, axes: Axes) -> Level:
    number = call.arguments.get("fill_value", call.arguments.get("s"))
    return Level.FREE if not axes and number else Level.EQUAL


def _ranks(_call: Call, _axes: Axes) -> Level:
    return Level.BOUND  # each place occurs once


def _spread_of_one(call: Call) -> bool:
    """Whether a variance is taken over single entries, so that it is zero."""
    dims = cast("Any", call.arguments.get("dim"))
    value = call.tensors[0]
    chosen = [dims] if isinstance(dims, int) else (dims or range(len(value.axes)))
    sizes = [value.shape[dim] for dim in chosen] if value.axes else []
    return call.short.startswith(("var", "std")) and max(sizes, default=1) == 1


LEVELS: Mapping[str, Callable[[Call, Axes], Level]] = {
    "whole": _same,
    "moved": _same,
    "smooth": _lowest,
    "even": _even,
    "root": _root,
    "sum": _summed,
    "pick": _picked,
    "share": _shared,
    "norm": _normed,
    "product": _product,
    "look-up": _looked_up,
    "plus": _sum,
    "times": _times,
    "either": _either,
    "recurrent": _recurrent,
    "power": _power,
    "scatter": _few_written,
    "put": _put,
    "attention": _attended,
    "number": _number,
    "order": _ranks,
}
