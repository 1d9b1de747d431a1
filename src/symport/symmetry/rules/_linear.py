"""Rules of sums of products: linear layers, matrix products, einsum."""

import string
from collections.abc import Mapping, Sequence

from symport.symmetry._terms import Term, tie
from symport.symmetry.axes import Axes, Call, Result, Value, rule_for


def letters(word: str, axes: Sequence[Term]) -> Mapping[str, Term]:
    """Name axes by the letters of a word; an ellipsis becomes numbers counted from its right."""
    before, _, after = word.partition("...")
    extra = len(axes) - len(before) - len(after)
    names = [*before, *(str(k) for k in range(extra, 0, -1)), *after]
    return dict(zip(names, axes, strict=True))


def batch(*tensors: Value, matrix: int = 2) -> list[str]:
    """The letters that an ellipsis stands for in a product of matrices."""
    return [str(k) for k in range(max(len(t.axes) for t in tensors) - matrix, 0, -1)]


@rule_for("linear")
def linear(call: Call) -> Result:
    """Y = x Wᵀ + b."""
    x, weight, bias = call["input"], call["weight"], call["bias"]
    inputs = [letters("...k", x.axes), letters("nk"[-len(weight.axes) :], weight.axes)]
    if bias is not None:
        inputs.append(letters("n", bias.axes))
    return call.contract(inputs, [*batch(x, matrix=1), *"n"[: len(weight.axes) - 1]])


@rule_for("matmul", "mm", "bmm", "mv", "dot", "vdot")
def matmul(call: Call) -> Result:
    """A matrix product, with the meaning of torch.matmul for any numbers of axes."""
    return _matmul(call, *call.tensors)


def _matmul(call: Call, x: Value, y: Value) -> Axes:
    left = letters("k" if len(x.axes) == 1 else "...mk", x.axes)
    right = letters("k" if len(y.axes) == 1 else "...kn", y.axes)
    result = [*batch(x, y), *(k for k in "mn" if k in (*left, *right))]
    return call.contract([left, right], result)


@rule_for("addmm", "baddbmm", "addmv", "addbmm")
def addmm(call: Call) -> Result:
    """A matrix product plus a tensor that is broadcast to it."""
    extra, x, y = call.tensors
    axes = _matmul(call, x, y)
    if len(axes) != len(call.shape):  # addbmm also sums over the batch
        axes = axes[-len(call.shape) :]
        call.together(*axes)
    for term, other in zip(reversed(axes), reversed(extra.axes), strict=False):
        if other.size != 1:
            tie(term, other)
    return axes


@rule_for("cdist", "_cdist_forward")
def cdist(call: Call) -> Result:
    """Distances between all rows: a sum over units, as in a matrix product."""
    x, y = call["x1"], call["x2"]
    inputs = [letters("...mk", x.axes), letters("...nk", y.axes)]
    return call.contract(inputs, [*batch(x, y), "m", "n"])


@rule_for("outer", "ger")
def outer(call: Call) -> Result:
    """All products of entries."""
    x, y = call.tensors
    return call.contract([letters("m", x.axes), letters("n", y.axes)], "mn")


@rule_for("einsum")
def einsum(call: Call) -> Result:
    """As written in its equation; a repeated letter within a tensor fixes its axes."""
    left, _, result = call["equation"].replace(" ", "").partition("->")
    words = left.split(",")
    if "->" not in call["equation"]:
        once = sorted(k for k in set(left) & set(string.ascii_letters) if left.count(k) == 1)
        result = ("..." if "..." in left else "") + "".join(once)
    tensors = [letters(word, v.axes) for word, v in zip(words, call["tensors"], strict=True)]
    for word, value in zip(words, call["tensors"], strict=True):
        _fix_repeated(call, word, value)
    dots = max((sum(k.isdigit() for k in axes) for axes in tensors), default=0)
    before, found, after = result.partition("...")
    numbers = [str(k) for k in range(dots, 0, -1)] if found else []
    return call.contract(tensors, [*before, *numbers, *after])


def _fix_repeated(call: Call, word: str, value: Value) -> None:
    plain = word.replace("...", "")
    repeated = [k for k, letter in enumerate(plain) if plain.count(letter) > 1]
    if repeated:
        call.fix(value.axes, "diagonal of an einsum")


@rule_for("bilinear")
def bilinear(call: Call) -> Result:
    """y_n = x W_n z + b_n."""
    x, z, weight, bias = call["input1"], call["input2"], call["weight"], call["bias"]
    inputs = [letters("...i", x.axes), letters("...j", z.axes), letters("nij", weight.axes)]
    if bias is not None:
        inputs.append(letters("n", bias.axes))
    return call.contract(inputs, [*batch(x, z, matrix=1), "n"])


@rule_for("tensordot")
def tensordot(call: Call) -> Result:
    """Sum over pairs of axes."""
    x, y = call["self"], call["other"]
    left = {f"l{k}": term for k, term in enumerate(x.axes)}
    right = {f"r{k}": term for k, term in enumerate(y.axes)}
    summed: set[str] = set()
    for a, b in zip(call["dims_self"], call["dims_other"], strict=True):
        name = f"l{a % len(x.axes)}"
        right = {name if k == f"r{b % len(y.axes)}" else k: t for k, t in right.items()}
        summed.add(name)
    return call.contract([left, right], [k for k in (*left, *right) if k not in summed])
