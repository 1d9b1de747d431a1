"""A network with random weights in float64: its outputs, their rounding, and what they depend on.

Casts to a lower precision inside the network are lifted to float64 as well, so that outputs differ
by float64 round-off only.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from symport.errors import DiscoveryError
from symport.params import is_inexact
from symport.symmetry.graph import (
    Example,
    double_by_default,
    evaluation,
    in_double,
    jittered,
    named_tensors,
    randomised,
    saved,
    shaken,
    varied,
)

TOLERANCE = 1e-10  # relative, of outputs; draws that need more for rounding are not used
MOST = 1e-6  # unless all do; draws that need more than this never are, as they would hide errors
LEAST = 1e-13  # always allowed: sums of 10⁴ terms in another order
ROUNDING = 32.0  # changes up to this multiple of those by a jitter of the weights are rounding
VISIBLE = 10.0  # changes above this multiple of what is allowed are certain
STRENGTHS = (1.0, 0.5, 0.25, 0.1, 0.0)  # of the draw; weaker ones amplify rounding less
FEW = 8  # entries of an output that one jitter may by chance leave unchanged
LIFTED = {
    **dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64),
    **dict.fromkeys((torch.complex64, torch.complex32), torch.complex128),
}
Select = Callable[[Any], Any]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Deviation:
    """How far the outputs have changed.

    Attributes:
        error: Largest difference in an output, relative to the largest entry of that output.
        share: The same relative to what is allowed for rounding; below 1 counts as unchanged.
    """

    error: float
    share: float

    @property
    def passes(self) -> bool:
        """Whether rounding explains the change."""
        return self.share < 1


class Network:
    """What a proof runs: a model, an example, and the selection of outputs."""

    def __init__(self, model: nn.Module, example: Example, select: Select | None) -> None:
        self.saved = saved(model)
        if any(tensor.is_meta for tensor in self.saved.tensors.values()):
            raise DiscoveryError("weights on the meta device have no values to prove a spec with")
        self.model = model
        self.example = example
        self.select = select

    def run(self, state: State, example: Example, *, graph: bool = False) -> list[Tensor]:
        """The outputs in evaluation mode; the state is left unchanged.

        Args:
            state: Weights and buffers by state-dict name, in float64.
            example: Arguments, in float64.
            graph: Whether gradients can be taken.

        Raises:
            DiscoveryError: The network cannot be run, or returns nothing to compare.
        """
        inputs = (example.args, dict(example.kwargs))
        with (
            evaluation(self.model) as copied,
            torch.random.fork_rng([]),
            torch.set_grad_enabled(graph),
            double_by_default(),
            torch.compiler.set_stance(
                "force_eager"
            ),  # compiled code would bypass our dispatch mode
            _InDouble(),
        ):
            torch.manual_seed(0)
            # Some models overwrite their own weights when they first run.
            given = self.saved.in_model({name: tensor.clone() for name, tensor in state.items()})
            own = named_tensors(self.model)
            given |= {name: in_double(t) for name, t in own.items() if name not in given}
            try:
                result = functional_call(copied, given, *inputs, tie_weights=False)
            except (RuntimeError, NotImplementedError, TypeError) as error:
                raise DiscoveryError(
                    f"{type(self.model).__name__} cannot be run in float64 to prove its spec: "
                    f"{error}. On the meta device it is traced without a proof"
                ) from error
        return self._compared(result if self.select is None else self.select(result))

    def _compared(self, chosen: Any) -> list[Tensor]:
        """The tensors among the outputs, of which one must be floating-point or complex."""
        found = tensors_in(chosen)
        if not any(is_inexact(out) and out.numel() for out in found):
            raise nothing_to_compare(self.model, self.select)
        return [torch.view_as_real(out) if out.is_complex() else out for out in found]


def nothing_to_compare(model: nn.Module, select: Select | None) -> DiscoveryError:
    """The error for a network without a floating-point or complex output."""
    which = "what it returns" if select is None else "what `select` picks from its outputs"
    return DiscoveryError(
        f"{type(model).__name__}: {which} holds no floating-point tensor, so there is nothing to "
        "compare; pass a `select` that returns the outputs whose values must not change, as "
        "tensors (logits, scores), before they are converted to indices, labels or Python numbers"
    )


class Trial:
    """A network with random weights and inputs, and the accuracy of its outputs.

    Attributes:
        allowed: How far rounding may change each output, relative to its largest entry; infinite
            if it changes one that is exact, such as an integer.
    """

    def __init__(
        self,
        network: Network,
        statistics: Collection[str],
        generator: Generator,
        strength: float,
    ) -> None:
        self.network = network
        self.generator = generator
        self.state = randomised(network.model, statistics, generator, strength)
        self.example = _mapped(partial(varied, generator=generator), network.example)
        try:
            self.outputs = network.run(self.state, self.example)
        except (DiscoveryError, IndexError):  # a random integer may be out of range
            self.example = _mapped(in_double, network.example)
            self.outputs = network.run(self.state, self.example)
        self.allowed = [TOLERANCE for _ in self.outputs]
        if any(bool(torch.isfinite(out).any()) for out in self.outputs):
            self.allowed = self._rounding()

    @property
    def finite(self) -> bool:
        """Whether each output has a finite entry."""
        return all(bool(torch.isfinite(out).any()) for out in self.outputs if out.numel())

    @property
    def room(self) -> float:
        """The most that rounding may change in any output; infinite if one has no finite entry."""
        return max(self.allowed) if self.finite else float("inf")

    def _rounding(self) -> list[float]:
        found = [LEAST for _ in self.outputs]
        for _ in range(2 if min(out.numel() for out in self.outputs) < FEW else 1):
            jitter = partial(jittered, generator=self.generator)
            state = _each_once(self.state, jitter)
            after = self.network.run(state, _mapped(jitter, self.example))
            errors = map(_distance, self.outputs, after)
            found = [max(a, ROUNDING * e) for a, e in zip(found, errors, strict=True)]
        return found

    def deviation(self, state: State) -> Deviation:
        """How far other weights change the outputs."""
        after = self.network.run(state, self.example)
        errors = list(map(_distance, self.outputs, after))
        shares = [e / a for e, a in zip(errors, self.allowed, strict=True)]
        return Deviation(max(errors), max(shares))

    def sees(self, places: Mapping[str, Sequence[tuple[int, Tensor]]]) -> bool:
        """Whether the outputs change visibly if some positions of some axes of tensors do."""
        changed = dict(self.state)
        for name, axes in places.items():
            noise = shaken(self.state[name], self.generator)
            for dim, positions in axes:
                part = noise.index_select(dim, positions)
                changed[name] = changed[name].index_copy(dim, positions, part)
        return self.deviation(changed).share > VISIBLE

    def slopes(self, names: Collection[str]) -> dict[str, Tensor] | None:
        """How far a relative change of each entry changes the outputs, to first order.

        This is the derivative of a random signed sum of all outputs, each relative to its largest
        entry, times the entry itself; the tensors have the shapes of the weights. Buffers and
        weights without influence are absent. None if derivatives cannot be taken.
        """
        parameters = dict(self.network.model.named_parameters(remove_duplicate=False))
        learned = {n for n, main in self.network.saved.names.items() if main in parameters}
        leaves = {id(t): t.detach().requires_grad_() for n, t in self.state.items()
                  if n in names and n in learned and is_inexact(t)}  # fmt: skip
        state = {name: leaves.get(id(t), t) for name, t in self.state.items()}
        found: dict[int, Tensor] = {}

        def keep(leaf: Tensor) -> None:
            grad = cast("Tensor", leaf.grad)
            found[id(leaf)] = (grad.conj() * leaf.detach()).abs()
            leaf.grad = None

        for leaf in leaves.values():
            leaf.register_post_accumulate_grad_hook(keep)
        try:
            outputs = self.network.run(state, self.example, graph=True)
            totals = [self._projected(out) for out in outputs if out.requires_grad]
            if totals:
                torch.stack(totals).sum().backward()
        except Exception:  # an operation without a derivative raises anything
            return None
        return {n: found[id(t)] for n, t in state.items() if n in names and id(t) in found}

    def _projected(self, output: Tensor) -> Tensor:
        finite = torch.where(torch.isfinite(output), output, 0)
        signs = torch.randint(2, output.shape, generator=self.generator).to(output) * 2 - 1
        return (finite * signs).sum() / (_largest(finite.detach()) * output.numel() ** 0.5)


def steady_trial(network: Network, statistics: Collection[str], generator: Generator) -> Trial:
    """The strongest draw that amplifies rounding little, else the one that amplifies it least.

    Raises:
        DiscoveryError: All amplify it too much, or no output is finite.
    """
    best = last = Trial(network, statistics, generator, STRENGTHS[0])
    for strength in STRENGTHS[1:]:
        if best.room <= TOLERANCE:
            return best
        last = Trial(network, statistics, generator, strength)
        best = min(best, last, key=lambda trial: trial.room)
    if best.room <= MOST:
        return best
    name = type(network.model).__name__
    if not any(bool(torch.isfinite(out).any()) for out in last.outputs):
        raise DiscoveryError(
            f"{name} returns nothing finite, neither with random weights nor with its own, so "
            "nothing can be proven; look for infinities in the example"
        )
    if not last.finite:
        return last
    raise DiscoveryError(
        f"{name} amplifies rounding too much for a proof in float64: weights moved in their last "
        f"places change an output by {best.room / ROUNDING:.0e} of its size; pass an "
        "example for which it is better conditioned, or trace it on the meta device without a proof"
    )


class _InDouble(TorchDispatchMode):
    """Runs every operation in float64, whatever dtype it is given."""

    supports_higher_order_operators = True  # branches, loops, attention with custom scores

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
        return made if tensors_in(args) else tree_map(_lifted, made)


def _lifted(value: Any) -> Any:
    """A dtype or tensor of lower precision in double precision; anything else unchanged."""
    if isinstance(value, Tensor):
        return value.to(LIFTED[value.dtype]) if value.dtype in LIFTED else value
    return LIFTED.get(value, value) if isinstance(value, torch.dtype) else value


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested containers."""
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


def _each_once(state: State, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """A state with every tensor changed once, under all of its names."""
    changed: dict[int, Tensor] = {}
    for tensor in state.values():
        if id(tensor) not in changed:
            changed[id(tensor)] = change(tensor)
    return {name: changed[id(tensor)] for name, tensor in state.items()}


def _largest(output: Tensor) -> Tensor:
    return output.abs().max().clamp(min=torch.finfo(output.dtype).tiny)


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest entry; infinite if NaN or infinity move.

    Integers must agree exactly. Those that are places or labels change with rounding only where two
    scores are nearly equal, and such a draw is not used.
    """
    if not is_inexact(a):
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = torch.isfinite(a)
    if not torch.equal(finite, torch.isfinite(b)) or not torch.equal(
        a[~finite].nan_to_num(), b[~finite].nan_to_num()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    return float((a[finite] - b[finite]).abs().max() / _largest(a[finite]))
