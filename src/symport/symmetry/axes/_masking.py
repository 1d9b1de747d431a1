"""Masks that leave a known share of an axis, as routers with groups of experts make them.

The entries that such a mask leaves are distinct. So the places of the largest are well defined, as
long as the masked entries lie below them and no more places are asked for than are left.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import torch

from symport.symmetry._terms import Term, atoms
from symport.symmetry.axes._entries import Level, Marks
from symport.symmetry.axes._kinds import KIND_OF, POSITIVE
from symport.symmetry.axes._registry import Call, Value

COMPARED: Mapping[str, Callable[[float, Any], float]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "lt": operator.lt,
    "ge": operator.ge,
    "le": operator.le,
    "logical_not": lambda entry, _: not entry,
    "bitwise_not": lambda entry, _: not entry,
}
VERY_LOW = -1e3  # an entry masked with less than this is taken to be below all that are left
NUMBERS = {
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), 0.0),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), 1.0),
}


def finds_what_is_left(call: Call, marks: Marks | None, axis: Term) -> bool:
    """Whether an operation finds places only among entries that a mask leaves on this axis."""
    if marks is None or not set(atoms(marks.axis)) <= set(atoms(axis)):
        return False
    if call.short == "topk":
        return bool(call["largest"]) and call["k"] <= marks.left * axis.size
    return call.short in ("argmax", "max") and marks.left > 0


def left_over(call: Call) -> Marks | None:
    """The mask that an operation applies, if its share is known and it lowers what it covers."""
    masked = {"masked_fill": ("mask", "self", "value"), "where": ("condition", "self", "other")}
    if call.short not in masked:
        return None
    mask, value, number = (call[name] for name in masked[call.short])
    marks = mask.entries.marks
    if marks is None or bool(marks.base) == bool(marks.mark) or not isinstance(value, Value):
        return None
    if isinstance(number, Value):
        number = number.entries.number
    floor = 0 if value.entries.positive else VERY_LOW
    if number is None or number > floor or value.entries.level < Level.BOUND:
        return None
    if call.short == "where":  # it masks where the condition is false
        return replace(marks, base=not marks.base, mark=not marks.mark)
    return marks


def marked(call: Call) -> Marks | None:
    """The mask that a result is: two numbers, one at a known share of the places along an axis."""
    name = call.short
    if name == "scatter":
        return _scattered(call)
    known = call.tensors[0].entries.marks if len(call.tensors) == 1 else None
    if known is None or not (KIND_OF.get(name) == "whole" or name in COMPARED):
        return None
    change, other = COMPARED.get(name), call.arguments.get("other")
    if call.arguments.get("dtype") is torch.bool:
        change, other = operator.ne, 0
    if change is None:
        return known
    return replace(known, base=change(known.base, other), mark=change(known.mark, other))


def _scattered(call: Call) -> Marks | None:
    value, places, mark = call["self"], call["index"], call.arguments.get("value")
    base = value.entries.number
    if base is None or not isinstance(mark, (int, float)) or not (places.axes and places.points):
        return None
    dim = call["dim"]
    if places.shape[dim] != 1 and places.entries.level < Level.BOUND:  # one may come twice
        return None
    return Marks(value.axes[dim], Fraction(places.shape[dim], value.shape[dim]), base, mark)


def number(call: Call) -> float | None:
    """The number that all entries are; None if it is not known."""
    if call.short in ("full", "full_like", "new_full", "scalar_tensor"):
        return cast("float", call.arguments.get("fill_value", call.arguments.get("s")))
    if KIND_OF.get(call.short) == "whole" and len(call.tensors) == 1:
        return call.tensors[0].entries.number
    return NUMBERS.get(call.short)


def positive(call: Call) -> bool:
    """Whether no entry is negative; a correction that is added to scores keeps them positive."""
    name, kind = call.short, KIND_OF.get(call.short)
    known = [value.entries.positive for value in call.tensors]
    numbers = [n for n in call.arguments.values() if isinstance(n, (int, float))]
    if name in POSITIVE or (name == "pow" and call.arguments.get("exponent") in (2, 4)):
        return True
    if name == "add":
        return any(known) and min(numbers, default=0) >= 0
    if kind == "times":
        return all(known) and min(numbers, default=0) >= 0
    kept = kind in ("whole", "moved", "pick") or name in ("sum", "mean")
    return kept and bool(known) and all(known)
