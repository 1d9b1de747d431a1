"""Trace a model: the tensor operations that it carries out, with shapes but without values.

The model is exported with torch.export in evaluation mode and stripped of in-place operations.
Nothing is computed, so this works on the meta device, where weights take no memory.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.node import map_arg

from symport.errors import DiscoveryError
from symport.params import is_inexact
from symport.symmetry.graph._decompose import Known, decomposed
from symport.symmetry.graph._functionalize import functional
from symport.symmetry.graph._model_copy import ListsAsGiven, evaluation, masks_as_given, quiet
from symport.symmetry.graph._refused import untraceable
from symport.symmetry.graph._state_dict import named_tensors, saved
from symport.symmetry.graph._storage import Place

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Shape | list["Shape | None"] | None
LONGEST_LIST = 64  # of integers in the code that may serve as an index
SourceKind: TypeAlias = Literal["weight", "buffer", "constant", "input"]

WRITTEN: Mapping[OutputKind, SourceKind] = {
    OutputKind.PARAMETER_MUTATION: "weight",
    OutputKind.BUFFER_MUTATION: "buffer",
}


@dataclass(frozen=True)
class Ref:
    """A reference by name to the result of an earlier operation or to a source."""

    name: str


@dataclass(frozen=True)
class Source:
    """A value that the graph starts from.

    Attributes:
        kind: What it is.
        target: For a weight or buffer, its state-dict name.
        shape: Its shape, None if it is no tensor.
        numbers: The entries of a list of integers in the code, which may serve as an index.
    """

    kind: SourceKind
    target: str
    shape: Shape | None
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Operation:
    """One call; tensors among its arguments are `Ref`s.

    Attributes:
        name: Of its result, as used by other operations.
        target: What is called.
        args: Positional arguments.
        kwargs: Keyword arguments.
        shapes: Shape of the result, a list of them if it returns several, None if no tensor.
        layer: The path of the module that it belongs to; empty if it is not known.
    """

    name: str
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: Shapes
    layer: str = ""


@dataclass(frozen=True)
class Graph:
    """Everything that a model computes for one example.

    Attributes:
        sources: The values that it starts from, by name.
        operations: In order of execution.
        outputs: Names of the values that it returns.
        tensors: Shape of every tensor of the state dict.
        names: For each of them that is a parameter or buffer, its name in the model.
        aliases: For every name of a parameter or buffer, the one name that represents it.
        fixed: Reasons for tensors that are fixed whatever the model does with them, by name.
        places: Where parameters, buffers and constants lie in memory, by the target of a source.
        masks: Names of the boolean values.
        updates: Sources that the model overwrites, by the name of the new value.
        inexact: Names of the values that are floating-point or complex.
    """

    sources: Mapping[str, Source]
    operations: Sequence[Operation]
    outputs: Sequence[str]
    tensors: Mapping[str, Shape]
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    masks: frozenset[str] = frozenset()
    updates: Mapping[str, str] = field(default_factory=dict[str, str])
    inexact: frozenset[str] = frozenset()

    @property
    def ends(self) -> list[str]:
        """Names of all values that are returned or stored."""
        return list(dict.fromkeys((*self.outputs, *self.updates)))


@dataclass(frozen=True)
class Example:
    """Arguments of a model.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.

    Example:
        >>> Example.of({"x": 1})
        Example(args=(), kwargs={'x': 1})
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, inputs: Any) -> "Example":
        """A mapping as keyword arguments, a tuple or list as positional ones, or one value."""
        if isinstance(inputs, Mapping):
            return cls((), dict(cast("Mapping[str, Any]", inputs)))
        if isinstance(inputs, (tuple, list)):
            return cls(tuple(cast("Sequence[Any]", inputs)), {})
        return cls((inputs,), {})


class _Selected(nn.Module):
    """A model that returns only selected outputs."""

    def __init__(self, model: nn.Module, select: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.select = select

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.select(self.model(*args, **kwargs))


def trace(
    model: nn.Module,
    example: Example,
    select: Callable[[Any], Any] | None = None,
    known: Known = callable,
) -> Graph:
    """Record the operations of a model in evaluation mode.

    Args:
        model: Its mode, weights and hooks are left unchanged. May be on the meta device.
        example: Arguments for one call.
        select: Picks the outputs to keep from what the model returns; all by default.
        known: Whether an operation has a rule; others are decomposed where torch can. By default
            all count as known.

    Raises:
        DiscoveryError: The model's control flow depends on data, or export fails otherwise.

    Example:
        >>> graph = trace(nn.Linear(4, 3), Example.of(torch.zeros(1, 4)))
        >>> [op.layer or str(op.target) for op in graph.operations]
        ['aten.linear.default']
        >>> graph.tensors
        {'weight': (3, 4), 'bias': (3,)}
    """
    with (
        evaluation(model) as copied,
        masks_as_given(),
        ListsAsGiven(),
        quiet(),
        torch.random.fork_rng([]),
        torch.no_grad(),
    ):
        traced = copied if select is None else _Selected(copied, select).eval()
        try:
            program = torch.export.export(traced, example.args, dict(example.kwargs), strict=False)
            program = decomposed(program, known)
        except Exception as error:  # torch.export raises every kind of exception
            why = untraceable(model, example.args, example.kwargs, select, error)
            raise DiscoveryError(why) from error
    return _Recorder(model, program, "" if select is None else "model.").record()


class _Recorder:
    """Turns an exported program into a `Graph`, with nested graphs inlined."""

    def __init__(
        self, model: nn.Module, program: torch.export.ExportedProgram, prefix: str
    ) -> None:
        self.model = model
        self.program = program
        self.prefix = prefix
        self.sources: dict[str, Source] = {}
        self.operations: list[Operation] = []
        self.masks, self.inexact = set[str](), set[str]()
        self.places: dict[str, Place] = {}

    def record(self) -> Graph:
        signature = self.program.graph_signature
        specs = {spec.arg.name: spec for spec in signature.input_specs}
        for node in self.program.graph.find_nodes(op="placeholder"):
            value = self.program.constants.get(specs[node.name].target or "")
            source = _source(node, specs[node.name], self.prefix)
            self.sources[node.name] = replace(source, numbers=_numbers(value))
            self._note(node.name, node.meta.get("val"))
            if source.kind == "constant" and isinstance(value, Tensor):
                self.places[source.target] = Place.of(value)
        known: dict[fx.Node, Any] = {}
        self._inline(self.program.graph_module, known, "")
        outputs, updates = self._results(known)
        state = saved(self.model)
        operations, needed = alive(self.operations, [*outputs, *updates])
        sources = {name: source for name, source in self.sources.items() if name in needed}
        tensors = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
        places = {**_places(self.model), **self.places}
        masks, inexact = frozenset(self.masks), frozenset(self.inexact)
        known_of = (tensors, state.names, state.first, state.fixed, places)
        return Graph(sources, operations, outputs, *known_of, masks, updates, inexact)

    def _results(self, known: Mapping[fx.Node, Any]) -> tuple[list[str], dict[str, str]]:
        """Names of the outputs; and the values written to parameters or buffers, with those."""
        outputs: list[str] = []
        updates: dict[str, str] = {}
        places = {(source.kind, source.target): name for name, source in self.sources.items()}
        (node,) = self.program.graph.find_nodes(op="output")
        for spec, value in zip(
            self.program.graph_signature.output_specs, node.args[0], strict=True
        ):
            names = _names([_refs(value, known)])
            target = (spec.target or "").removeprefix(self.prefix)
            place = places.get((WRITTEN.get(spec.kind, "input"), target))
            if place is None:
                outputs += names
            else:
                updates |= dict.fromkeys(names, place)
        return outputs, updates

    def _note(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.dtype == torch.bool:
            self.masks.add(name)
        elif isinstance(value, Tensor) and is_inexact(value):
            self.inexact.add(name)

    def _inline(self, module: fx.GraphModule, known: dict[fx.Node, Any], prefix: str) -> list[str]:
        """Record one graph; `known` has the values of the placeholders of a nested one."""
        outputs: list[str] = []
        for node in module.graph.nodes:
            if node.op == "output":
                outputs = _names(_refs(node.args, known))
            elif node.op == "get_attr":
                known[node] = self._attribute(module, node, prefix)
            elif node.op == "placeholder":
                known.setdefault(node, Ref(node.name))
            else:
                known[node] = self._call(node, known, prefix)
        return outputs

    def _attribute(self, module: fx.GraphModule, node: fx.Node, prefix: str) -> Any:
        value = operator.attrgetter(cast("str", node.target))(module)
        if not isinstance(value, Tensor):
            return value
        name = prefix + node.name
        self.sources[name] = Source("constant", name, tuple(value.shape), _numbers(value))
        self.places[name] = Place.of(value)
        self._note(name, value)
        return Ref(name)

    def _call(self, node: fx.Node, known: dict[fx.Node, Any], prefix: str) -> Any:
        args = _refs(node.args, known)
        if node.target is torch.ops.aten.type_as.default:
            args = args[:1]  # only the type of the other tensor counts
        if "wrap_with" in str(node.target):
            return self._region(node, args, prefix)
        if node.target is operator.getitem and isinstance(args[0], (list, tuple)):
            return args[0][args[1]]
        name = prefix + node.name
        kwargs = _refs(node.kwargs, known)
        target = cast("Callable[..., Any]", functional(node))
        value = node.meta.get("val")
        self._note(name, value)
        layer = _layer(node).removeprefix(self.prefix)
        self.operations.append(Operation(name, target, args, kwargs, _shapes(value, name), layer))
        return Ref(name)

    def _region(self, node: fx.Node, args: tuple[Any, ...], prefix: str) -> list[Any]:
        """Inline a part of the model that runs under `no_grad` or autocast.

        Other operations that take a graph (a branch, a loop, attention with custom scores) are not
        inlined: all tensors that they use are among their arguments.
        """
        (graph,) = (arg for arg in args if isinstance(arg, fx.GraphModule))
        inner = args[args.index(graph) + 1 :]
        places = graph.graph.find_nodes(op="placeholder")
        names = self._inline(graph, dict(zip(places, inner, strict=True)), f"{prefix}{node.name}.")
        return [Ref(name) for name in names]


def alive(
    operations: Sequence[Operation], outputs: Sequence[str]
) -> tuple[list[Operation], set[str]]:
    """The operations that the outputs depend on, and the names of all values that they read."""
    needed = set(outputs)
    alive: list[Operation] = []
    for operation in reversed(operations):
        if operation.name in needed:
            needed.update(_names([operation.args, list(operation.kwargs.values())]))
            alive.append(operation)
    return alive[::-1], needed


def _source(node: fx.Node, spec: Any, prefix: str) -> Source:
    kinds: dict[InputKind, SourceKind] = {
        InputKind.PARAMETER: "weight",
        InputKind.BUFFER: "buffer",
        InputKind.USER_INPUT: "input",
    }
    value = node.meta.get("val")
    shape = _shapes(value, node.name) if isinstance(value, Tensor) else None
    kind = kinds.get(spec.kind, "constant")
    target = (spec.target or node.name).removeprefix(prefix)
    return Source(kind, target, cast("Shape | None", shape))


def _numbers(value: Any) -> tuple[int, ...] | None:
    """The entries of a short list of integers in the code; None for any other value."""
    if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.is_meta:
        return None
    short = value.ndim == 1 and value.numel() <= LONGEST_LIST
    return tuple(cast("list[int]", value.tolist())) if short else None


def _layer(node: fx.Node) -> str:
    """The path of the innermost module that a node was traced in."""
    stack = cast("Mapping[str, tuple[str, Any]]", node.meta.get("nn_module_stack") or {})
    return str(list(stack.values())[-1][0]) if stack else ""


def _refs(value: Any, known: Mapping[fx.Node, Any]) -> Any:
    return map_arg(value, known.__getitem__)


def _names(value: Any) -> list[str]:
    if isinstance(value, Ref):
        return [value.name]
    if isinstance(value, (list, tuple)):
        return [name for item in cast("Sequence[Any]", value) for name in _names(item)]
    return []


def _shapes(value: Any, name: str) -> Shapes:
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        return [cast("Shape | None", _shapes(item, name)) for item in items]
    if not isinstance(value, Tensor):
        return None
    if any(isinstance(size, torch.SymInt) for size in cast("Sequence[Any]", value.shape)):
        raise DiscoveryError(
            f"{name}: its shape {tuple(value.shape)} depends on data (nonzero, masked selection, "
            ".item()); replace it by an operation whose shape is known, such as torch.where"
        )
    return tuple(value.shape)


def _places(model: nn.Module) -> dict[str, Place]:
    """The place in memory of every parameter and buffer, under the first of its names."""
    found: dict[Place, str] = {}
    for name, tensor in named_tensors(model).items():
        found.setdefault(Place.of(tensor), name)
    return {name: place for place, name in found.items()}
