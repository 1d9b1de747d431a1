"""Prove a spec: random elements of its group must leave the network's function unchanged.

Everything runs in float64 on copies whose parameters and statistics are drawn at random around
their values.
Casts to a lower precision inside the network are lifted to float64 as well, so that nothing but
float64 round-off can differ.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from symport.errors import DiscoveryError
from symport.permute import permute
from symport.spec import Permutation, PermutationSpec
from symport.symmetry.draw import double_by_default, in_double, randomised, varied
from symport.symmetry.saved import named_tensors, saved
from symport.symmetry.standin import evaluation
from symport.symmetry.trace import Example

TOLERANCE = 1e-10  # relative, of outputs; float64 round-off of deep networks stays below 1e-12
ELEMENTS = 2  # drawn of each group; one may by chance lie in a smaller group that is the true one
LIFTED = {
    **dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64),
    **dict.fromkeys((torch.complex64, torch.complex32), torch.complex128),
}
Select = Callable[[Any], Any]


@dataclass(frozen=True)
class Proof:
    """How a spec fared.

    Attributes:
        error: Largest relative error of any output under a random element of the whole group.
        failed: Roots of the trees that change the function, with the relative error of each.
    """

    error: float
    failed: Mapping[str, float]


def verify(
    spec: PermutationSpec,
    model: nn.Module,
    example_inputs: Any,
    *,
    generator: Generator | None = None,
    select: Select | None = None,
) -> Proof:
    """Prove that permuting by random elements of the group leaves the outputs unchanged.

    Args:
        spec: The symmetry to prove.
        model: Left as found. Its weights must be real, not on the meta device.
        example_inputs: A tensor, a tuple of positional or a mapping of keyword arguments.
            Floating-point ones are taken as float64; integers (tokens) as they are. Where all
            entries of one are equal, others are drawn, so that zeros will do as an example.
        generator: Draws weights and permutations; seed 0 by default.
        select: Picks the outputs that matter from what the model returns.

    Returns:
        The proof; `failed` is empty if the whole group passed. If it did not, each tree of
        nested groups is tried alone.

    Raises:
        DiscoveryError: The weights are on the meta device, or no output is finite.
        SpecError: The spec does not fit the model.
    """
    example = Example.of(example_inputs)
    trial = _Trial(model, example, spec.buffers, select, generator or _seeded())
    spec.check(trial.saved.tensors)
    error = trial.error(spec, list(spec.groups))
    if error < TOLERANCE:
        return Proof(error, {})
    alone = {root: trial.error(spec, names) for root, names in spec.trees().items()}
    return Proof(error, {root: e for root, e in alone.items() if not e < TOLERANCE})


def _moving(permutation: Permutation, spec: PermutationSpec) -> Permutation:
    """The same, but turned by one wherever it would leave all units of a group in place."""

    def moved(name: str, index: Tensor) -> Tensor:
        if spec.groups[name].kind == "fixed":
            return index
        stays = (index == torch.arange(index.shape[-1])).all(-1, keepdim=True)
        return torch.where(stays, index.roll(1, -1), index)

    return Permutation({name: moved(name, index) for name, index in permutation.indices.items()})


class _Trial:
    """A network with random weights in float64, and its outputs."""

    def __init__(
        self,
        model: nn.Module,
        example: Example,
        statistics: Collection[str],
        select: Select | None,
        generator: Generator,
    ) -> None:
        self.saved = saved(model)
        if any(tensor.is_meta for tensor in self.saved.tensors.values()):
            raise DiscoveryError("weights on the meta device have no values to prove a spec with")
        self.model = model
        self.select = select
        self.generator = generator
        self.state = randomised(model, statistics, generator)
        self.example = _mapped(partial(varied, generator=generator), example)
        try:
            self.outputs = self._run(self.state)
        except (DiscoveryError, IndexError):  # a drawn integer may be out of range
            self.example = _mapped(in_double, example)
            self.outputs = self._run(self.state)
        if not all(self._finite()):
            self.state = {name: in_double(t) for name, t in self.saved.tensors.items()}
            self.outputs = self._run(self.state)
        if self.outputs and not any(self._finite()):
            raise DiscoveryError(
                f"{type(model).__name__} returns nothing finite, neither with random weights nor "
                "with its own, so nothing can be proven; look for infinities in the example"
            )

    def _finite(self) -> list[bool]:
        return [bool(torch.isfinite(out).any()) for out in self.outputs]

    def error(self, spec: PermutationSpec, names: Collection[str]) -> float:
        """Largest relative error of the outputs when only the named groups are permuted."""
        return max(self._one(spec, names) for _ in range(ELEMENTS))

    def _one(self, spec: PermutationSpec, names: Collection[str]) -> float:
        drawn = _moving(Permutation.random(spec, self.generator), spec).indices
        still = Permutation.identity(spec).indices
        element = Permutation({g: (drawn if g in names else still)[g] for g in spec.groups})
        after = self._run(permute(self.state, spec, element))
        return max((_distance(a, b) for a, b in zip(self.outputs, after, strict=True)), default=0.0)

    def _run(self, state: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs in evaluation mode; the random state is left as found."""
        # Some models write to their own weights the first time that they run.
        given = self.saved.in_model({name: tensor.clone() for name, tensor in state.items()})
        own = named_tensors(self.model)
        given |= {name: in_double(tensor) for name, tensor in own.items() if name not in given}
        inputs = (self.example.args, dict(self.example.kwargs))
        with (
            evaluation(self.model) as copied,
            torch.random.fork_rng([]),
            torch.no_grad(),
            double_by_default(),
            torch.compiler.set_stance("force_eager"),  # nothing is compiled around our mode
            _InDouble(),
        ):
            torch.manual_seed(0)
            try:
                result = functional_call(copied, given, *inputs, tie_weights=False)
            except (RuntimeError, NotImplementedError, TypeError) as error:
                raise DiscoveryError(
                    f"{type(self.model).__name__} cannot be run in float64 to prove its spec: "
                    f"{error}. On the meta device it is traced without a proof"
                ) from error
        chosen = result if self.select is None else self.select(result)
        return [leaf.detach() for leaf in _tensors(chosen)]


class _InDouble(TorchDispatchMode):
    """Runs every operation in float64, whatever types it is asked for."""

    supports_higher_order_operators = True  # branches, loops, attention with scores of one's own

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Any = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SUBSTITUTES:
            return _SUBSTITUTES[func](*args, **kwargs)
        schema = getattr(func, "_schema", None)  # none for an operation that takes functions
        if schema is None or not schema.is_mutable:
            args, kwargs = tree_map(_lifted, (args, kwargs))
        made = func(*args, **kwargs)
        return made if _tensors(args) else tree_map(_lifted, made)


def _lifted(value: Any) -> Any:
    """A type or tensor of lower precision in double precision."""
    if isinstance(value, Tensor):
        return value.to(LIFTED[value.dtype]) if value.dtype in LIFTED else value
    return LIFTED.get(value, value) if isinstance(value, torch.dtype) else value


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _grouped_mm(x: Tensor, weight: Tensor, offs: Tensor, *_: Any, **__: Any) -> Tensor:
    """Rows of x times the weight of their expert; torch has no float64 kernel for it."""
    ends = cast("list[int]", offs.tolist())
    rows = zip([0, *ends], ends, weight, strict=False)
    return torch.cat([x[start:end] @ matrix for start, end, matrix in rows])


_SUBSTITUTES = {
    op.default: _grouped_mm for op in [getattr(torch.ops.aten, "_grouped_mm", None)] if op
}


def _mapped(change: Callable[[Any], Any], example: Example) -> Example:
    return Example(*tree_map(change, (example.args, dict(example.kwargs))))


def _seeded() -> Generator:
    return torch.Generator().manual_seed(0)


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest entry; infinite if NaN or infinity move."""
    if not a.is_floating_point() and not a.is_complex():
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = torch.isfinite(a)
    if not torch.equal(finite, torch.isfinite(b)) or not torch.equal(
        a[~finite].nan_to_num(), b[~finite].nan_to_num()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = a[finite].abs().max().clamp(min=torch.finfo(a.dtype).tiny)
    return float((a[finite] - b[finite]).abs().max() / scale)
