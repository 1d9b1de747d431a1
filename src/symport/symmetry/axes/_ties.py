"""Which operations tie units that could otherwise be permuted separately.

That a layer ties its weights to its input is obvious and not noted. Noted is where two computed
values are combined (a sum, a concatenation, a product of queries and keys), or two weights if an
operation reads nothing else.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from symport.symmetry._terms import Term, atoms
from symport.symmetry.axes._registry import Call, Value

SHOWN = 2  # layers that are named for each operation


@dataclass(frozen=True)
class Tie:
    """Units that one operation tied.

    Attributes:
        term: The units.
        operation: The name of the operation.
        layer: The path of the module that it belongs to; empty if it is not known.
    """

    term: Term
    operation: str
    layer: str


def free_units(call: Call, computed: Collection[str]) -> list[Term]:
    """The free units of the values that an operation combines.

    Args:
        call: Before its rule is applied.
        computed: Values that depend on the example.
    """
    values = [value for value in call.tensors if value.name in computed] or call.tensors
    return _units(values)


def _units(values: Iterable[Value]) -> list[Term]:
    found = (atom for value in values for term in value.axes for atom in atoms(term))
    return list({id(atom): atom for atom in found if atom.reason is None}.values())


def new_ties(before: Sequence[Term], call: Call, layer: str) -> list[Tie]:
    """The ties that an operation has made: for each pair of units, what they now share."""
    if len(before) < 2:
        return []
    now = [{id(atom): atom for atom in atoms(term)} for term in before]
    found = {key: a[key] for a, b in combinations(now, 2) for key in a.keys() & b.keys()}
    name = getattr(call.op, "__name__", str(call.op)).partition(".")[0]
    return [Tie(term, name, layer) for term in found.values()]


def describe_ties(ties: Iterable[tuple[str, str]]) -> str:
    """One line for the operations that tie one group, given as pairs (operation, layer).

    Example:
        >>> adds = [("add", f"layers.{k}") for k in range(3)]
        >>> describe_ties([*adds, ("cat", "")])
        'add (in layers.0, layers.1 and 1 more), cat'
    """
    layers: dict[str, list[str]] = {}
    for operation, layer in ties:
        known = layers.setdefault(operation, [])
        if layer and layer not in known:
            known.append(layer)
    return ", ".join(f"{name}{_listed(places)}" for name, places in layers.items())


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return f" (in {', '.join(places[:SHOWN])}{more})" if places else ""
