"""Rules of operations that only move entries: reshape, transpose, concatenate, slice."""

import itertools
from collections.abc import Iterator, Sequence

from symport.symmetry._terms import Term, factors, product, split, tie, total
from symport.symmetry.axes import Axes, Call, Result, Value, fixed, fresh, rule_for, unknown


@rule_for("view", "_unsafe_view", "reshape", "flatten", "unflatten")
def reshape(call: Call) -> Result:
    """Axes that are merged become a product; one that is split is refined to one."""
    value = call["self"]
    if call.shape == value.shape:
        return value.axes
    if "dtype" in call.arguments:  # the bits of each entry are read as several numbers
        return unknown(call)
    if 0 in call.shape:
        return fresh(call.shape)
    axes: dict[int, Term] = {}
    regrouped: set[int] = set()
    for old, new in segments(value.shape, call.shape):
        wide = [k for k in new if call.shape[k] != 1]
        before = product([value.axes[k] for k in old])
        if len(wide) == 1:
            axes[wide[0]] = before
        else:
            axes |= dict(zip(wide, fresh(call.shape[k] for k in wide), strict=True))
            tie(before, product(axes[k] for k in wide))
            regrouped |= set(old) if sum(value.shape[k] != 1 for k in old) > 1 else set()
    if regrouped:  # a factor beside some units may have come from another axis
        old = (factors(t) if k in regrouped else [t] for k, t in enumerate(value.axes))
        call.together(*itertools.chain(*old))
    return tuple(axes.get(k, Term(1)) for k in range(len(call.shape)))


def segments(a: Sequence[int], b: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes that have equally many entries."""
    i = j = 0
    while i < len(a) or j < len(b):
        left, right = [i] if i < len(a) else [], [j] if j < len(b) else []
        n, m = (a[i] if left else 1), (b[j] if right else 1)
        while n != m:
            if n < m:
                left.append(left[-1] + 1 if left else i)
                n *= a[left[-1]]
            else:
                right.append(right[-1] + 1 if right else j)
                m *= b[right[-1]]
        yield left, right
        i, j = i + len(left), j + len(right)


@rule_for("permute")
def permute(call: Call) -> Result:
    """Axes in another order."""
    axes = call["self"].axes
    return tuple(axes[dim] for dim in call["dims"])


@rule_for("transpose", "t", "swapaxes", "mT", "numpy_T", "adjoint", "mH")
def transpose(call: Call) -> Result:
    """Two axes change places."""
    axes = list(call["self"].axes)
    a, b = call.arguments.get("dim0", -2), call.arguments.get("dim1", -1)
    if len(axes) > 1:
        axes[a], axes[b] = axes[b], axes[a]
    return tuple(axes)


@rule_for("unsqueeze", "squeeze")
def squeeze(call: Call) -> Result:
    """Axes of length 1 are added or removed."""
    kept = iter([term for term in call["self"].axes if term.size != 1])
    return tuple(Term(1) if size == 1 else next(kept) for size in call.shape)


@rule_for("expand", "expand_as", "broadcast_to", "repeat", "tile")
def repeat(call: Call) -> Result:
    """Copies along new axes, or as the outer factor of old ones; copies are interchangeable."""
    value = call["self"]
    old = (*(Term(1) for _ in range(len(call.shape) - len(value.axes))), *value.axes)
    return tuple(
        product([*fresh((size // term.size,)), term])
        for size, term in zip(call.shape, old, strict=True)
    )


@rule_for("repeat_interleave")
def repeat_interleave(call: Call) -> Result:
    """Copies of each unit next to it, as the inner factor of an axis."""
    value, repeats = call["self"], call.arguments.get("repeats")
    if not isinstance(repeats, int):
        call.fix(value.axes, "repeated a number of times that depends on data")
        return fixed(call.shape, "repeated a number of times that depends on data")
    dim = call.arguments.get("dim")
    axes = [product(value.axes)] if dim is None else list(value.axes)
    place = 0 if dim is None else dim
    axes[place] = product([axes[place], *fresh((repeats,))])
    return tuple(axes)


@rule_for("cat", "concat", "concatenate", "hstack", "vstack", "dstack")
def cat(call: Call) -> Result:
    """A sum along one axis; all others are tied."""
    tensors = [v for v in call["tensors"] if v.shape != (0,)]
    if any(len(v.axes) != len(call.shape) for v in tensors):
        return _give_up(call)
    dim = call.arguments.get("dim")
    if dim is None:
        differs = [k for k, size in enumerate(call.shape) if tensors[0].shape[k] != size]
        dim = differs[0] if differs else 0
    dim %= len(call.shape)
    axes = [_tied([v.axes[k] for v in tensors]) if k != dim else Term(1)
            for k in range(len(call.shape))]  # fmt: skip
    axes[dim] = total(v.axes[dim] for v in tensors)
    return tuple(axes)


def _give_up(call: Call) -> Result:
    reason = f"no rule for {call.op} of tensors with these shapes"
    for value in call.tensors:
        call.fix(value.axes, reason)
    return fixed(call.shape, reason)


def _tied(terms: Sequence[Term]) -> Term:
    for term in terms[1:]:
        tie(terms[0], term)
    return terms[0]


@rule_for("stack")
def stack(call: Call) -> Result:
    """A new fixed axis, whose positions are the tensors."""
    tensors: list[Value] = call["tensors"]
    axes = [_tied(terms) for terms in zip(*(v.axes for v in tensors), strict=True)]
    dim = call["dim"] % len(call.shape)
    axes.insert(dim, *fixed((len(tensors),), "position in a stack"))
    return tuple(axes)


@rule_for("slice")
def slice_(call: Call) -> Result:
    """A range of one axis."""
    value, step = call["self"], call["step"]
    dim = call["dim"] % len(value.axes)
    length = value.shape[dim]
    start, stop, _ = slice(call["start"], call["end"]).indices(length)
    if step != 1:
        return _strided(call)
    axes = list(value.axes)
    axes[dim] = _taken(call, value, dim, range(start, stop))
    return tuple(axes)


def _taken(call: Call, value: Value, dim: int, chosen: range) -> Term:
    """A range of an axis, as a term."""
    length = value.shape[dim]
    if len(chosen) in (0, length):
        return value.axes[dim] if chosen else Term(0)
    call.takes(value, dim, [chosen])
    sizes = [chosen.start, len(chosen), length - chosen.stop]
    return split(value.axes[dim], sizes)[1 if chosen.start else 0]


def _strided(call: Call) -> Result:
    """Every `step`-th position: one position of the inner factor of units x step."""
    value, step = call["self"], call["step"]
    axes, dim = list(value.axes), call["dim"] % len(value.axes)
    length, reason = value.shape[dim], f"taken in steps of {step}"
    if length == call.shape[dim] * step:
        units = Term(call.shape[dim])
        lane = fixed((step,), reason)
        tie(axes[dim], product([units, *lane]))
        axes[dim] = units
        call.together(*axes, *lane)
    else:
        call.mix(value, [dim], reason)
        axes[dim] = Term(call.shape[dim], reason=reason)
    return tuple(axes)


@rule_for("select")
def select(call: Call) -> Result:
    """One position of one axis, which is removed."""
    value, place = call["self"], call["index"]
    dim = call["dim"] % len(value.axes)
    if isinstance(place, int):
        place %= value.shape[dim]
        _taken(call, value, dim, range(place, place + 1))
    else:
        call.fix([value.axes[dim]], "one position of it is read, which depends on data")
    return axes_without(value.axes, [dim])


@rule_for("split", "split_with_sizes", "chunk", "tensor_split", "unbind")
def split_(call: Call) -> Result:
    """All parts of an axis."""
    value, dim = call["self"], call["dim"] % len(call["self"].axes)
    length, count = value.shape[dim], len(call.shapes)
    gone = len(call.shape) < len(value.axes)
    sizes = [1] * length if gone else [shape[dim] for shape in call.shapes if shape]
    pieces = _cut(value.axes[dim], sizes) if count > 1 else [value.axes[dim]]
    ends = list(itertools.accumulate(sizes))
    ranges = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    call.takes(value, dim, [r for k, r in enumerate(ranges) if call.uses(k)])
    before, after = value.axes[:dim], value.axes[dim + 1 :]
    return [(*before, *(() if gone else (piece,)), *after) for piece in pieces]


def _cut(term: Term, sizes: Sequence[int]) -> list[Term]:
    """Consecutive parts of an axis, some of which may be empty."""
    pieces = iter(split(term, sizes) if any(sizes) else ())
    return [next(pieces) if size else Term(0) for size in sizes]


@rule_for("slice_scatter", "select_scatter")
def scatter(call: Call) -> Result:
    """A range of one axis is overwritten, so the axis becomes a sum."""
    value, source, dim = call["self"], call["src"], call["dim"] % len(call["self"].axes)
    if call.arguments.get("step", 1) != 1:
        return _give_up(call)
    if "index" in call.arguments:
        start = call["index"] % value.shape[dim]
        stop, parts = start + 1, [*source.axes[:dim], Term(1), *source.axes[dim:]]
    else:
        start, stop, _ = slice(call["start"], call["end"]).indices(value.shape[dim])
        parts = list(source.axes)
    axes = list(value.axes)
    sizes = [start, stop - start, value.shape[dim] - stop]
    rest = _cut(axes[dim], sizes)
    for k, part in enumerate(parts):
        if k != dim and part.size != 1:
            tie(axes[k], part)
    rest[1] = parts[dim]
    axes[dim] = total(rest)
    return tuple(axes)


@rule_for("glu")
def glu(call: Call) -> Result:
    """The first half of an axis, times a function of the second."""
    value, dim = call["self"], call["dim"] % len(call.shape)
    half = call.shape[dim]
    first, gate = split(value.axes[dim], [half, half])
    tie(first, gate)
    axes = list(value.axes)
    axes[dim] = first
    call.together(*axes)
    return tuple(axes)


@rule_for("channel_shuffle")
def channel_shuffle(call: Call) -> Result:
    """Axis 1 changes from groups x units to units x groups."""
    value, groups = call["self"], call["groups"]
    outer, inner = fresh((groups, call.shape[1] // groups))
    tie(value.axes[1], product([outer, inner]))
    return (value.axes[0], product([inner, outer]), *value.axes[2:])


@rule_for("pixel_shuffle")
def pixel_shuffle(call: Call) -> Result:
    """Axis -3 is channels x r x r; the last two become positions."""
    *before, channels, height, width = call["self"].axes
    r = call["upscale_factor"]
    units = Term(call.shape[-3])
    down, right = fixed((r, r), "position in a pixel shuffle")
    tie(channels, product([units, down, right]))
    return (*before, units, product([height, down]), product([width, right]))


@rule_for("pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Result:
    """The inverse of a pixel shuffle."""
    *before, channels, height, width = call["self"].axes
    r = call["downscale_factor"]
    down, right = fixed((r, r), "position in a pixel shuffle")
    rows, columns = fresh(call.shape[-2:])
    tie(height, product([rows, down]))
    tie(width, product([columns, right]))
    return (*before, product([channels, down, right]), rows, columns)


def axes_without(axes: Axes, dims: Sequence[int]) -> Axes:
    """The axes except some."""
    gone = {dim % len(axes) for dim in dims}
    return tuple(term for k, term in enumerate(axes) if k not in gone)
