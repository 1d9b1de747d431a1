"""Arithmetic on dicts of tensors: the parameters and buffers of a network, or displacements.

Only floating-point and complex tensors are computed with. Integer and boolean tensors, such as
BatchNorm's `num_batches_tracked`, are counts and masks: results contain those of the first operand,
and inner products omit them. Sums are computed in at least float32, so half-precision networks are
rounded once, when the result is converted back to their own dtype.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from symport.errors import ParamsError

Params: TypeAlias = Mapping[str, Tensor]

CHUNK = 2**22  # elements held in float64 at a time: 32 MiB, however large the tensor


def is_inexact(tensor: Tensor) -> bool:
    """Whether a tensor is floating-point or complex, not a count or a mask.

    Args:
        tensor: Any shape.

    Example:
        >>> is_inexact(torch.tensor(1.5)), is_inexact(torch.tensor([True, False]))
        (True, False)
    """
    return tensor.is_floating_point() or tensor.is_complex()


def add(a: Params, b: Params, scale: float = 1.0) -> dict[str, Tensor]:
    """Compute a + scale · b.

    Args:
        a: Tensors by name. Never modified.
        b: Tensors of the same shapes; names of `a` that it lacks are cloned from `a`.
        scale: Factor of `b`, any real number.

    Returns:
        New tensors in the order, dtypes and devices of `a`.

    Raises:
        ParamsError: `b` has a tensor that `a` lacks, or one of another shape.

    Example:
        >>> add({"w": torch.tensor([1.0]), "n": torch.tensor(3)}, {"w": torch.tensor([4.0])}, 0.5)
        {'w': tensor([3.]), 'n': tensor(3)}
    """
    if extra := [name for name in b if name not in a]:
        raise ParamsError(f"cannot add {listed(extra)}: the first operand has no such tensor")
    check_same_structure(
        {name: a[name] for name in b}, b, "the first operand", "the second", dtypes=False
    )
    return _combine(a, b, lambda x, y: x + scale * y)


def subtract(a: Params, b: Params) -> dict[str, Tensor]:
    """Compute a − b.

    Args:
        a: Tensors by name. Never modified.
        b: Tensors of the same names and shapes.

    Returns:
        New tensors in the order, dtypes and devices of `a`; integer tensors are those of `a`.

    Raises:
        ParamsError: Names or shapes differ.

    Example:
        >>> subtract({"w": torch.tensor([3.0])}, {"w": torch.tensor([1.0])})
        {'w': tensor([2.])}
    """
    check_same_structure(a, b, "the first operand", "the second", dtypes=False)
    return _combine(a, b, lambda x, y: x - y)


def interpolate(a: Params, b: Params, fraction: float) -> dict[str, Tensor]:
    """Compute (1 − fraction) · a + fraction · b.

    Args:
        a: Tensors by name. Never modified.
        b: Tensors of the same names and shapes.
        fraction: 0 gives `a` and 1 gives `b`, bit by bit where the dtypes agree; other real
            numbers extrapolate.

    Returns:
        New tensors in the order, dtypes and devices of `a`; integer tensors are those of `a`.

    Raises:
        ParamsError: Names or shapes differ.

    Example:
        >>> interpolate({"w": torch.tensor([1.0])}, {"w": torch.tensor([5.0])}, 0.25)
        {'w': tensor([2.])}
    """
    check_same_structure(a, b, "the first operand", "the second", dtypes=False)
    if fraction in (0, 1):  # 0 · x + y would turn −0 into 0, and NaN · 0 is NaN
        return _combine(a, b, lambda x, y: y if fraction else x)
    return _combine(a, b, lambda x, y: (1 - fraction) * x + fraction * y)


def inner(a: Params, b: Params) -> float:
    """The inner product Σ aᵢ bᵢ over all floating-point tensors, accumulated in float64.

    Complex tensors count as pairs of real numbers.

    Raises:
        ParamsError: Names or shapes differ.

    Example:
        >>> inner({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 4.0])})
        11.0
    """
    check_same_structure(a, b, "the first operand", "the second", dtypes=False)
    return sum((_dot(x, b[name]) for name, x in a.items() if is_inexact(x)), 0.0)


def norm(a: Params) -> float:
    """The Euclidean norm over all floating-point tensors, accumulated in float64.

    Example:
        >>> norm({"w": torch.tensor([3.0]), "b": torch.tensor([4.0])})
        5.0
    """
    return inner(a, a) ** 0.5


def check_same_structure(
    a: Params, b: Params, what_a: str, what_b: str, *, dtypes: bool = True
) -> None:
    """Raise ParamsError unless `a` and `b` have the same names, shapes and dtypes.

    Args:
        a: Tensors by name, in any order.
        b: Tensors by name, in any order.
        what_a: What `a` is called in the message, for instance "the source".
        what_b: What `b` is called.
        dtypes: Whether dtypes must be equal. Without it float16 is accepted for float32, but never
            an integer tensor for a floating-point or complex one.

    Raises:
        ParamsError: Names, shapes or dtypes differ; the message names the first such tensor.

    Example:
        >>> old, new = {"w": torch.zeros(2)}, {"w": torch.zeros(3)}
        >>> check_same_structure(old, new, "the old base", "the new base")
        Traceback (most recent call last):
            ...
        symport.errors.ParamsError: w: its shape is (2,) in the old base, (3,) in the new base
    """
    if missing := [name for name in a if name not in b]:
        raise ParamsError(f"{what_b} lacks {listed(missing)}, which {what_a} has")
    if extra := [name for name in b if name not in a]:
        raise ParamsError(f"{what_a} lacks {listed(extra)}, which {what_b} has")
    for name, tensor in a.items():
        if tensor.shape != b[name].shape:
            sizes = f"{tuple(tensor.shape)} in {what_a}, {tuple(b[name].shape)} in {what_b}"
            raise ParamsError(f"{name}: its shape is {sizes}")
        if _differ(tensor.dtype, b[name].dtype, strict=dtypes):
            raise ParamsError(
                f"{name}: its dtype is {tensor.dtype} in {what_a}, {b[name].dtype} in {what_b}; "
                "convert one of them first"
            )


def check_finite(params: Params, what: str) -> None:
    """Raise ParamsError if a tensor holds NaN or infinity, naming the first such tensor.

    Args:
        params: Tensors by name.
        what: What they are called in the message, for instance "step 3".

    Raises:
        ParamsError: A value is NaN or infinite.

    Example:
        >>> check_finite({"w": torch.tensor([1.0, torch.nan])}, "step 3")
        Traceback (most recent call last):
            ...
        symport.errors.ParamsError: w: 1 of 2 values of step 3 are NaN or inf
    """
    for name, tensor in params.items():
        if is_inexact(tensor) and not is_finite(tensor):
            bad = tensor.numel() - int(torch.isfinite(_wide(tensor)).sum())
            raise ParamsError(f"{name}: {bad} of {tensor.numel()} values of {what} are NaN or inf")


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor contains neither NaN nor infinity.

    Args:
        tensor: Any shape; read once, rarely twice.

    Example:
        >>> is_finite(torch.tensor([1.0, torch.inf]))
        False
    """
    wide = _wide(tensor)
    return bool(wide.sum().isfinite()) or bool(wide.isfinite().all())  # a finite sum may overflow


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _differ(a: torch.dtype, b: torch.dtype, *, strict: bool) -> bool:
    kinds_differ = (a.is_floating_point, a.is_complex) != (b.is_floating_point, b.is_complex)
    return a != b if strict else kinds_differ


def _combine(
    a: Params, b: Params, operation: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Apply an operation to the inexact tensors that both operands have; clone the rest."""
    return {
        name: _apply(x.detach(), b[name].detach(), operation)
        if name in b and is_inexact(x)
        else x.detach().clone()
        for name, x in a.items()
    }


def _apply(x: Tensor, y: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    result = operation(_wide(x), _wide(y.to(x.device))).to(x.dtype)
    return result.clone() if result is x or result is y else result


def _wide(tensor: Tensor) -> Tensor:
    """In at least float32: float16, bfloat16 and the 8-bit formats are too coarse for sums."""
    narrow = tensor.is_floating_point() and tensor.dtype.itemsize < torch.float32.itemsize
    return tensor.float() if narrow else tensor


def _dot(x: Tensor, y: Tensor) -> float:
    pieces = zip(_flat(x).split(CHUNK), _flat(y.to(x.device)).split(CHUNK), strict=True)
    return sum(float(torch.dot(p.double(), q.double())) for p, q in pieces)


def _flat(tensor: Tensor) -> Tensor:
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.detach().reshape(-1)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself, or float32 for a narrower floating-point dtype.

    Example:
        >>> wide_dtype(torch.bfloat16), wide_dtype(torch.float64), wide_dtype(torch.int8)
        (torch.float32, torch.float64, torch.int8)
    """
    is_narrow = dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize
    return torch.float32 if is_narrow else dtype


def widened(tensor: Tensor) -> Tensor:
    """The tensor itself, or a float32 copy of a narrower floating-point tensor.

    Args:
        tensor: Any shape.

    Example:
        >>> widened(torch.ones(2, dtype=torch.bfloat16))
        tensor([1., 1.])
    """
    return tensor.to(wide_dtype(tensor.dtype))


def is_rounded(outline: Params, dtype: torch.dtype) -> bool:
    """Whether converting tensors to a dtype would round some of them, or sums of them.

    Args:
        outline: Tensors by name; only their dtypes matter.
        dtype: The dtype to convert to.

    Returns:
        True if it is narrower than float32, or than the dtype of one of the tensors.

    Example:
        >>> is_rounded({"w": torch.zeros(2, dtype=torch.bfloat16)}, torch.bfloat16)
        True
    """
    dtypes = {tensor.dtype for tensor in outline.values()}
    widths = [wide_dtype(d).itemsize for d in dtypes if d.is_floating_point]
    return dtype.itemsize < max(widths, default=0)
